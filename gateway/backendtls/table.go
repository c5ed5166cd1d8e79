// SPDX-License-Identifier: Apache-2.0

package backendtls

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Port is a port of a service.
type Port struct {
	Service mesh.ServiceKey
	Number  uint16
}

// Table has the settings of all backends that are spoken to in TLS. It is never changed; nil is an empty one.
type Table struct{ of map[Port]*Settings }

// For are the settings for a port of a service; nil: it is spoken to in the clear.
func (t *Table) For(service mesh.ServiceKey, port uint16) *Settings {
	if t == nil || len(t.of) == 0 {
		return nil
	}
	return t.of[Port{service, port}]
}

// Next makes the table of another configuration. Settings that say the same as before are the same; those that are gone are retired, and given so that
// what was made with them can be given up. The error says which cannot be used, as connections with them will.
func (t *Table) Next(in []mesh.BackendTLS, proof *mesh.Certificate) (next *Table, gone []*Settings, problems error) {
	next = &Table{make(map[Port]*Settings, len(in))}
	for i := range in {
		b := &in[i]
		s := t.For(b.Service, b.Port)
		if s == nil || !s.same(b, proof) {
			s = newSettings(b, proof)
		}
		if s.problem != nil {
			problems = errors.Join(problems, s.problem)
		}
		next.of[Port{b.Service, b.Port}] = s
	}
	if t == nil {
		return next, nil, problems
	}
	for port, s := range t.of {
		if next.of[port] != s {
			s.retired.Store(true)
			gone = append(gone, s)
		}
	}
	return next, gone, problems
}
