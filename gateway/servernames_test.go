// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestServerNames(t *testing.T) {
	route := func(name string, created int64, hostnames ...string) *mesh.TLSRoute {
		return &mesh.TLSRoute{Namespace: "n", Name: name, Created: created, Hostnames: hostnames}
	}
	n := newServerNames([]mesh.Listener{
		{TLSRoutes: []*mesh.TLSRoute{route("wide", 1, "*.com"), route("exact", 9, "api.example.com"), route("younger", 8, "twice.example.com")}},
		{TLSRoutes: []*mesh.TLSRoute{route("narrow", 5, "*.example.com"), route("older", 7, "twice.example.com"), route("same-age", 7, "twice.example.com")}},
	})
	for name, want := range map[string]string{
		"api.example.com": "exact", "web.example.com": "narrow", "a.b.example.com": "narrow", "example.com": "wide", "a.org": "", "com": "", "": "",
		".example.com": "wide", "twice.example.com": "older",
	} {
		got := ""
		if r := n.route(name); r != nil {
			got = r.Name
		}
		if got != want {
			t.Errorf("%q goes to %q, want %q", name, got, want)
		}
	}
	all := newServerNames([]mesh.Listener{{TLSRoutes: []*mesh.TLSRoute{route("all", 1), route("exact", 1, "a.org")}}})
	for name, want := range map[string]string{"": "all", "b.org": "all", "a.org": "exact"} {
		if got := all.route(name); got == nil || got.Name != want {
			t.Errorf("%q goes to %v, want %q", name, got, want)
		}
	}
}

func TestPickBackend(t *testing.T) {
	backends := []mesh.TLSBackend{{Port: 1, Weight: 3}, {Port: 2}, {Port: 3, Weight: 1}}
	got := map[uint16]int{}
	for i := range uint64(4) {
		b, ok := pickBackend(backends, func(n uint64) uint64 {
			if n != 4 {
				t.Errorf("a number below %d is asked for", n)
			}
			return i
		})
		if got[b.Port]++; !ok {
			t.Error("none")
		}
	}
	if got[1] != 3 || got[2] != 0 || got[3] != 1 {
		t.Errorf("by weight: %v", got)
	}
	if _, ok := pickBackend(backends[1:2], nil); ok {
		t.Error("one without weight was picked")
	}
}
