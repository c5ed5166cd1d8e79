// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestChainIsNoLoop: applications that ask each other through the gateway, and pass on what they were told with a request, do not go in circles.
func TestChainIsNoLoop(t *testing.T) {
	const links = 10
	app := func(i int) string { return "app" + strconv.Itoa(i) }
	var rules []mesh.HTTPRule
	for i := range links {
		rules = append(rules, with(rule("x", prefix("/"+strconv.Itoa(i))), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to(app(i))} }))
	}
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, rules...)))
	for i := range links {
		s.backend(app(i), mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
			if i == links-1 {
				io.WriteString(w, "the last one")
				return
			}
			next, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+s.address+"/"+strconv.Itoa(i+1), nil)
			if err != nil {
				panic(err)
			}
			next.Header, next.Host = r.Header.Clone(), "x"
			response, err := s.client().Do(next)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer response.Body.Close()
			w.WriteHeader(response.StatusCode)
			io.Copy(w, response.Body)
		})
	}
	nc, in := s.dial()
	if r, body := s.asks(nc, in, "GET /0 HTTP/1.1\r\nHost: x\r\n\r\n"); r.StatusCode != http.StatusOK {
		t.Errorf("answered %d %q", r.StatusCode, body)
	}
}
