// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestLoop: a request whose way leads back to the gateway is refused after a few turns, also where a rule's author takes away by what it is known, and also as a copy.
func TestLoop(t *testing.T) {
	forgetful := mesh.HTTPFilters{Request: mesh.HeaderChange{Remove: []string{headerVia}}}
	again := to("a")
	for name, change := range map[string]func(*mesh.HTTPRule){
		"plain":             func(*mesh.HTTPRule) {},
		"forgetful":         func(r *mesh.HTTPRule) { r.Filters = forgetful },
		"forgetful backend": func(r *mesh.HTTPRule) { r.Backends[0].Filters = forgetful },
		"copies": func(r *mesh.HTTPRule) {
			copied := again
			copied.Filters = forgetful
			r.Filters.Mirrors = []mesh.HTTPMirror{{Backend: copied, Numerator: 1, Denominator: 1}}
			r.Backends = []mesh.HTTPBackend{to("b")}
		},
	} {
		for _, ask := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"} {
			s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
				r.Backends = []mesh.HTTPBackend{again}
				change(r)
			}))))
			s.backend("b", mesh.AppUnknown, says("b"))
			at, err := net.ResolveTCPAddr("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			s.endpoint("a", mesh.AppUnknown, at.AddrPort())
			nc, in := s.dial()
			r, _ := s.asks(nc, in, ask)
			if name != "copies" && (r.StatusCode != http.StatusLoopDetected || r.Header.Get(headerReason) != string(ReasonLoop)) {
				t.Errorf("%s: answered %d %q", name, r.StatusCode, r.Header.Get(headerReason))
			}
			s.until("all of it is logged", func() bool { return strings.Contains(s.logs.String(), `"`+string(ReasonLoop)+`"`) })
			if n := s.counted("isthmus_gateway_http_requests_total", ""); n > maxTurns+1 {
				t.Errorf("%s: one request became %v", name, n)
			}
			s.drain()
		}
	}
}

// TestVia: what a request brings of other gateways stays.
func TestVia(t *testing.T) {
	s := newScene(t, Limits{}, toA())
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Join(r.Header[headerVia], "+"))
	})
	nc, in := s.dial()
	if _, body := s.asks(nc, in, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); body != s.server.via[0] {
		t.Errorf("first: %q", body)
	}
	if _, body := s.asks(nc, in, "GET / HTTP/1.1\r\nHost: x\r\nIsthmus-Via: a\r\nIsthmus-Via: b, c\r\n\r\n"); body != "a+b, c+"+s.server.via[0] {
		t.Errorf("after others: %q", body)
	}
	one, same, nameless := viaOf("x")[0], viaOf("x")[0], viaOf("")[0]
	if one != same || one == viaOf("y")[0] || nameless == viaOf("")[0] {
		t.Error("names do not tell gateways apart")
	}
}
