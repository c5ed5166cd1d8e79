// SPDX-License-Identifier: Apache-2.0

package http

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// KeyPairs are the certificates of the listeners that share a port, by one configuration: parsed, each once, also those that cannot be used. They are never changed; nil has none.
type KeyPairs struct{ of map[mesh.Certificate]keyPair }

type keyPair struct {
	parsed  tls.Certificate
	problem error
}

// Next are those of another configuration, of the listeners that a function picks. Only those that k does not have are parsed: that takes long, as the key is checked (BenchmarkConfigure64Certificates), and a configuration changes few.
func (k *KeyPairs) Next(listeners []mesh.Listener, picks func(mesh.Listener) bool) *KeyPairs {
	next := &KeyPairs{map[mesh.Certificate]keyPair{}}
	for i := range listeners {
		if !picks(listeners[i]) {
			continue
		}
		for _, c := range listeners[i].Certificates {
			if _, there := next.of[c]; there {
				continue
			}
			var pair keyPair
			there := false
			if k != nil {
				pair, there = k.of[c]
			}
			if !there {
				pair.parsed, pair.problem = tls.X509KeyPair([]byte(c.Chain), []byte(c.Key))
			}
			next.of[c] = pair
		}
	}
	return next
}

// Of gives the certificates of a listener that Next has seen. Those that cannot be used are left out, and an error says why.
func (k *KeyPairs) Of(l *mesh.Listener) (usable []tls.Certificate, problems error) {
	for _, c := range l.Certificates {
		pair := k.of[c]
		if pair.problem != nil {
			problems = errors.Join(problems, fmt.Errorf("listener %q: %w", l.Name, pair.problem))
			continue
		}
		usable = append(usable, pair.parsed)
	}
	return usable, problems
}
