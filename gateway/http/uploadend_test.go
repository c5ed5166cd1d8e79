// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// An answer that is there while its client is silent in the middle of its upload comes to that at once and whole, whatever is spoken to the endpoint.
func TestAnswerToASilentClient(t *testing.T) {
	for name, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		for kind, head := range map[string]string{"sized": "Content-Length: 100000\r\n\r\n", "chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\n"} {
			for _, status := range []int{http.StatusOK, http.StatusUnauthorized} {
				t.Run(fmt.Sprintf("%s, %s, %d", name, kind, status), func(t *testing.T) {
					t.Parallel()
					s := newScene(t, Limits{StallTime: time.Hour}, toA())
					s.backend("a", app, answersUpload(status))
					nc, from := s.dial()
					defer nc.Close()
					began := time.Now()
					r, text := s.asks(nc, from, "POST / HTTP/1.1\r\nHost: x\r\n"+head+"begin\r\n")
					if took := time.Since(began); r.StatusCode != status || text != "who" || took > lingerTime {
						t.Errorf("answered %s %q after %v\n%s", r.Status, text, took, s.logs)
					}
				})
			}
		}
	}
}

// answersUpload answers when the first byte of an upload is there: who refuses it says how long the answer is, and who takes it ends with a trailer.
func answersUpload(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		_ = out.EnableFullDuplex() // or the library would wait for the body before it answers
		_, _ = io.ReadFull(r.Body, make([]byte, 1))
		if status != http.StatusOK {
			w.Header().Set("Content-Length", "3")
		}
		w.WriteHeader(status)
		io.WriteString(w, "who")
		if status == http.StatusOK {
			_ = out.Flush()
			w.Header().Set(http.TrailerPrefix+"X-End", "1")
		}
	}
}

// In HTTP/2 the end of an answer, and the trailers in it, do not wait for the client either, nor does the next attempt.
func TestAnswerToASilentClientInHTTP2(t *testing.T) {
	again := &mesh.HTTPRetry{Attempts: 2, Codes: []uint16{http.StatusUnauthorized}, Backoff: time.Millisecond}
	for name, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		for _, tc := range []struct {
			status int
			retry  *mesh.HTTPRetry
		}{{http.StatusOK, nil}, {http.StatusOK, again}, {http.StatusUnauthorized, nil}, {http.StatusUnauthorized, again}} {
			t.Run(fmt.Sprintf("%s, %d, with retry %v", name, tc.status, tc.retry != nil), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, Limits{StallTime: time.Hour}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
					r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, tc.retry
				}))))
				s.backend("a", app, answersUpload(tc.status))
				s.clientOfHTTP2(1<<16, func(c *http.Transport) {
					from, into := io.Pipe()
					defer into.Close()
					go io.WriteString(into, "begin")
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", from)
					if err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(patience, func() { into.Close() }) // or a failure would take an hour
					began := time.Now()
					response, err := c.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					defer response.Body.Close()
					text, err := io.ReadAll(response.Body)
					if took := time.Since(began); response.StatusCode != tc.status || string(text) != "who" || err != nil || tc.status == http.StatusOK && response.Trailer.Get("X-End") != "1" || took > lingerTime {
						t.Errorf("%s %q, %v, and %v, after %v\n%s", response.Status, text, err, response.Trailer, took, s.logs)
					}
				})
			})
		}
	}
}
