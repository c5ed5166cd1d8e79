// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestTLSRouteOfAName(t *testing.T) {
	route := func(name string, hostnames ...string) *mesh.TLSRoute {
		return &mesh.TLSRoute{Namespace: "n", Name: name, Hostnames: hostnames}
	}
	w, err := newWays([]mesh.Listener{
		{Protocol: mesh.ListenerTLS, Hostname: "*.com", TLSRoutes: []*mesh.TLSRoute{route("wide", "*.com"), route("exact", "api.example.com"), route("hidden", "a.there.com")}},
		{Protocol: mesh.ListenerTLS, Hostname: "*.example.com", TLSRoutes: []*mesh.TLSRoute{route("narrow", "*.example.com"), route("twice", "twice.example.com", "two.example.com")}},
		{Protocol: mesh.ListenerTLSTerminate, Hostname: "*.there.com", TLSRoutes: []*mesh.TLSRoute{route("there", "b.there.com")}},
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"api.example.com": "narrow", // a listener that fits better hides the other's route
		"web.example.com": "narrow", "a.b.example.com": "narrow", "example.com": "wide", "a.org": "", "com": "", "": "",
		".example.com": "wide", "twice.example.com": "twice", "two.example.com": "twice", "a.there.com": "", "b.there.com": "there",
	} {
		got := ""
		host, r := w.tlsRoute(name)
		if r != nil {
			got = r.Name
			if host.passes != (got != "there") {
				t.Errorf("%q is passed on: %v", name, host.passes)
			}
		}
		if got != want {
			t.Errorf("%q goes to %q, want %q", name, got, want)
		}
	}
	all, err := newWays([]mesh.Listener{{Protocol: mesh.ListenerTLS, TLSRoutes: []*mesh.TLSRoute{route("all"), route("exact", "a.org")}}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"": "all", "b.org": "all", "a.org": "exact"} {
		if _, got := all.tlsRoute(name); got == nil || got.Name != want {
			t.Errorf("%q goes to %v, want %q", name, got, want)
		}
	}
}

func TestPickBackend(t *testing.T) {
	backends := []mesh.StreamBackend{{Port: 1, Weight: 3}, {Port: 2}, {Port: 3, Weight: 1}}
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

// What ends TLS keeps its certificate over configurations that have the same one, and it is not parsed again.
func TestWaysKeepCertificates(t *testing.T) {
	web := certificateFor(t, "web.example.com")
	ends := func(l mesh.Listener, before *ways) (*ways, *byte) {
		t.Helper()
		l.Protocol = mesh.ListenerTLSTerminate
		w, err := newWays([]mesh.Listener{l}, nil, before)
		if err != nil {
			t.Fatal(err)
		}
		host, _ := w.hosts.find("web.example.com")
		return w, &host.ends.Certificates[0].Certificate[0][0]
	}
	one, was := ends(mesh.Listener{Hostname: "web.example.com", Certificates: []mesh.Certificate{web}}, nil)
	two, is := ends(mesh.Listener{Hostname: "*.example.com", Certificates: []mesh.Certificate{web}}, one)
	if is != was {
		t.Error("the certificate was parsed anew")
	}
	if _, is = ends(mesh.Listener{Certificates: []mesh.Certificate{certificateFor(t, "web.example.com")}}, two); is == was {
		t.Error("the certificate from before is still there")
	}
}
