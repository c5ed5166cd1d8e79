// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What a client says of itself is a stranger's word at the end of a request, too, announced or not, in each spelling; other trailers pass.
func TestTrailersOfStrangers(t *testing.T) {
	for name, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		for _, announced := range []string{"X-Sum, X-Forwarded-Client-Cert, X-Forwarded-For, X_Forwarded_Proto, Forwarded", "X-Sum", "X-Forwarded-For"} {
			s := newScene(t, Limits{}, toA())
			seen := make(chan http.Header, 1)
			s.backend("a", app, func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				seen <- r.Trailer
			})
			nc, in := s.dial()
			s.asks(nc, in, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: "+announced+"\r\n\r\n2\r\nhi\r\n0\r\n"+
				"X-Sum: 1\r\nX-Forwarded-Client-Cert: admin\r\nX-Forwarded-For: 10.0.0.1\r\nX_Forwarded_Proto: https\r\nForwarded: for=10.0.0.1\r\nKeep-Alive: timeout=1\r\n\r\n")
			want := []string{"X-Sum"}
			if announced == "X-Forwarded-For" {
				want = nil
			}
			if got := <-seen; !slices.Equal(slices.Sorted(maps.Keys(got)), want) || want != nil && got.Get("X-Sum") != "1" {
				t.Errorf("%s, announced %s: %q arrive, want %q", name, announced, got, want)
			}
		}
	}
}

// Trailers that come after a request was sent for the second time are sent with it.
func TestTrailersOfRetries(t *testing.T) {
	for name, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
				r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}
			}))))
			asked, seen := make(chan struct{}, 3), make(chan http.Header, 1)
			s.backend("a", app, func(w http.ResponseWriter, r *http.Request) {
				if asked <- struct{}{}; len(asked) < 3 {
					_ = http.NewResponseController(w).EnableFullDuplex() // or the library would wait for the body before it answers
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				io.Copy(io.Discard, r.Body)
				seen <- r.Trailer
			})
			nc, from := s.dial()
			io.WriteString(nc, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Other\r\n\r\n5\r\nhello\r\n")
			s.until("all attempts came", func() bool { return len(asked) == 3 })
			s.asks(nc, from, "0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n")
			if got := <-seen; got.Get("X-Sum") != "1" || got.Get("X-Other") != "2" {
				t.Errorf("%q arrive", got)
			}
		})
	}
}
