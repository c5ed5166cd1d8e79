// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// serverNames finds the route of a name at one port. It is never changed.
type serverNames struct {
	exact map[string]*mesh.TLSRoute
	// wild are by what is behind the wildcard, with its dot: ".example.com".
	wild map[string]*mesh.TLSRoute
	any  *mesh.TLSRoute
}

// newServerNames joins the routes of the listeners of a port. Of those that have one name, the oldest has it, or else the first by name.
func newServerNames(listeners []mesh.Listener) *serverNames {
	var routes []*mesh.TLSRoute
	for _, l := range listeners {
		routes = append(routes, l.TLSRoutes...)
	}
	slices.SortStableFunc(routes, func(a, b *mesh.TLSRoute) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	n := &serverNames{exact: map[string]*mesh.TLSRoute{}, wild: map[string]*mesh.TLSRoute{}}
	for _, r := range routes {
		if len(r.Hostnames) == 0 && n.any == nil {
			n.any = r
		}
		for _, h := range r.Hostnames {
			names, name := n.exact, h
			if suffix, ok := strings.CutPrefix(h, "*"); ok {
				names, name = n.wild, suffix
			}
			if names[name] == nil {
				names[name] = r
			}
		}
	}
	return n
}

// route is the one with the name itself, or the longest wildcard that it fits, or the one for every name; nil: none.
func (n *serverNames) route(name string) *mesh.TLSRoute {
	if name == "" {
		return n.any
	}
	if r := n.exact[name]; r != nil {
		return r
	}
	for at := 1; at < len(name); at++ { // a wildcard stands for one character at least
		if name[at] == '.' {
			if r := n.wild[name[at:]]; r != nil {
				return r
			}
		}
	}
	return n.any
}

// pickBackend chooses one by weight; random gives a number in [0, n). It is false if none has any.
func pickBackend(backends []mesh.TLSBackend, random func(n uint64) uint64) (mesh.TLSBackend, bool) {
	total := uint64(0)
	for _, b := range backends {
		total += uint64(b.Weight)
	}
	if total == 0 {
		return mesh.TLSBackend{}, false
	}
	at := random(total)
	for _, b := range backends {
		if at < uint64(b.Weight) {
			return b, true
		}
		at -= uint64(b.Weight)
	}
	return mesh.TLSBackend{}, false
}
