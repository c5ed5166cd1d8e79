// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A client is told the type of a body that the backend has named, and none if that has named none: a browser could take for a page what somebody has uploaded.
func TestNoTypeIsGuessed(t *testing.T) {
	page := "<html><script>alert(1)</script>"
	untyped := listener("web", "", route("r", nil,
		with(rule("x", prefix("/a")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }),
		with(rule("y", prefix("/bare")), func(r *mesh.HTTPRule) {
			r.Backends, r.Filters.Response = []mesh.HTTPBackend{to("a")}, mesh.HeaderChange{Remove: []string{"Content-Type"}}
		}),
		with(rule("z", prefix("/redirect")), func(r *mesh.HTTPRule) { r.Filters.Redirect = &mesh.HTTPRedirect{Hostname: "y", Status: 302} }),
	))
	for spoken, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		for size, text := range map[string]string{"small": page, "large": page + strings.Repeat(" ", 2*heldBack)} {
			t.Run(size+", from "+spoken, func(t *testing.T) {
				inMemory(t, func(t *testing.T, in network) {
					s := newSceneIn(t, in, Limits{}, untyped)
					s.backend("a", app, func(w http.ResponseWriter, r *http.Request) {
						if w.Header()["Content-Type"] = nil; r.URL.Path == "/bare" {
							w.Header().Set("Content-Type", "text/html")
						}
						io.WriteString(w, text)
					})
					s.clientOfHTTP2(1<<20, func(http2 *http.Transport) {
						for by, client := range map[string]*http.Client{"in HTTP/1.1": s.client(), "in HTTP/2": {Transport: http2, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}} {
							for _, asked := range []struct{ method, path, body string }{{"GET", "/a", ""}, {"POST", "/a", strings.Repeat("x", directBody+1)}, {"GET", "/bare", ""}, {"GET", "/redirect", ""}} {
								response, got := s.ask(client, asked.method, "http://x"+asked.path, asked.body)
								if typed := response.Header["Content-Type"]; typed != nil || got != text && asked.path != "/redirect" {
									t.Errorf("%s %s %s: told that %d bytes are %q", asked.method, asked.path, by, len(got), typed)
								}
							}
							if response, got := s.ask(client, "GET", "http://x/elsewhere", ""); got == "" || response.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
								t.Errorf("an answer of the gateway's own %s: told that %q is %q", by, got, response.Header["Content-Type"])
							}
						}
					})
				})
			})
		}
	}
}
