// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What is reserved for another attempt is as much as the body may have, and nothing any more once no other attempt can come, however long the answer takes.
func TestReplayReserves(t *testing.T) {
	for name, tc := range map[string]struct {
		body     io.Reader
		retry    mesh.HTTPRetry
		times    int   // that it fails
		reserved int64 // while the backend has the request
	}{
		"a body of known length":      {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 0, 5},
		"one of unknown length":       {struct{ io.Reader }{strings.NewReader("hello")}, mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 0, 1000},
		"one that is sent once more":  {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 1, 5},
		"one for the last time":       {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 1}, 1, 0},
		"one that is never sent anew": {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}}, 0, 0},
		"none":                        {nil, mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, Limits{RetryBytes: 1000, BodyMemory: 1000}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
				r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &tc.retry
			}))))
			asked, answer, end := make(chan int64), make(chan struct{}), make(chan struct{})
			failures := 0
			s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if failures++; failures <= tc.times {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				asked <- int64(len(body))
				<-answer
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				<-end
			})
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://x/", tc.body)
			if err != nil {
				t.Fatal(err)
			}
			began := make(chan *http.Response, 1)
			go func() {
				response, err := s.client().Do(r)
				if err != nil {
					t.Error(err)
				}
				began <- response
			}()
			if n := <-asked; tc.body != nil && n != 5 {
				t.Errorf("%d bytes came", n)
			}
			s.until("as much is reserved as is needed", func() bool { return s.server.kept.Load() == tc.reserved })
			close(answer)
			response := <-began
			s.until("nothing is reserved while the answer comes", func() bool { return s.server.kept.Load() == 0 })
			close(end)
			if response != nil {
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			s.drain()
			if n := s.server.kept.Load(); n != 0 {
				t.Errorf("%d bytes are reserved in the end", n)
			}
		})
	}
}
