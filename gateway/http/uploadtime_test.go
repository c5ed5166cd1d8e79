// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A request whose time is over is answered then, and its connection ended, although the client has sent only a part of its body and keeps the rest to itself.
func TestTimeIsUpDuringAnUpload(t *testing.T) {
	for name, limit := range map[string]func(*mesh.HTTPRule){
		"of the request": func(r *mesh.HTTPRule) { r.RequestTimeout = 50 * time.Millisecond },
		"of the backend": func(r *mesh.HTTPRule) { r.BackendTimeout = 50 * time.Millisecond },
		"of the request, with another attempt": func(r *mesh.HTTPRule) {
			r.RequestTimeout, r.Retry = 50*time.Millisecond, &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 1}
		},
	} {
		for _, sent := range []string{"Content-Length: 1000\r\n\r\nx", "Content-Length: 10000000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"} {
			t.Run(name, func(t *testing.T) {
				inMemory(t, func(t *testing.T, in network) {
					s := newSceneIn(t, in, Limits{StallTime: 10 * patience}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
						r.Backends = []mesh.HTTPBackend{to("a")}
						limit(r)
					}))))
					s.backend("a", mesh.AppUnknown, says("a"))
					nc, reader := s.dial()
					nc.SetDeadline(time.Now().Add(patience))
					fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: x\r\n"+sent)
					response, err := http.ReadResponse(reader, nil)
					if err != nil {
						t.Fatalf("%v\n%s", err, s.logs)
					}
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
					if response.StatusCode != http.StatusGatewayTimeout || response.Header.Get(headerReason) != string(ReasonTimeout) {
						t.Errorf("answered %d %s", response.StatusCode, response.Header.Get(headerReason))
					}
					if _, err := reader.ReadByte(); err != io.EOF {
						t.Errorf("the connection goes on: %v", err)
					}
				})
			})
		}
	}
}

// The time of a backend ends its answer when it is over, with other attempts to come or not, although the client keeps the rest of the body to itself: an answer that has begun is none to try again for,
// and nor is one that has not if the body is not kept.
func TestTimeOfABackendIsUpDuringAnUpload(t *testing.T) {
	for name, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		for _, retry := range []*mesh.HTTPRetry{nil, {Attempts: 2, Codes: []uint16{503, 504}}} {
			for _, begun := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, with retry %v, begun %v", name, retry != nil, begun), func(t *testing.T) {
					inMemory(t, func(t *testing.T, in network) {
						s := newSceneIn(t, in, Limits{StallTime: patience + patience/2, RetryBytes: 8}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
							r.Backends, r.BackendTimeout, r.Retry = []mesh.HTTPBackend{to("a")}, time.Second, retry // in which an answer has begun, if it is to
						}))))
						s.backend("a", app, func(w http.ResponseWriter, r *http.Request) {
							http.NewResponseController(w).EnableFullDuplex()
							if begun {
								io.WriteString(w, "begun")
								http.NewResponseController(w).Flush()
							}
							io.Copy(io.Discard, r.Body) // until it is cut
						})
						from, into := io.Pipe()
						defer into.Close()
						go func() {
							io.WriteString(into, "a body ")
							io.WriteString(into, "that goes on")
						}()
						r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", from)
						if err != nil {
							t.Fatal(err)
						}
						response, err := s.client().Do(r)
						if err != nil {
							t.Fatalf("%v\n%s", err, s.logs)
						}
						defer response.Body.Close()
						text, err := io.ReadAll(response.Body)
						if begun && (response.StatusCode != http.StatusOK || string(text) != "begun" || err == nil) {
							t.Errorf("answered %d %q, and then %v", response.StatusCode, text, err)
						}
						if !begun && (response.StatusCode != http.StatusGatewayTimeout || err != nil) {
							t.Errorf("answered %d, %v", response.StatusCode, err)
						}
						into.Close()
						s.until("it is in the log", func() bool { return s.logs.count(`"reason":`) > 0 })
						if !strings.Contains(s.logs.String(), `"reason":"timeout"`) {
							t.Errorf("the log does not say why: %s", s.logs)
						}
					})
				})
			}
		}
	}
}

// An attempt whose time is over before its answer gives way to the next one, or to an answer of ours, although the client has sent only a part of its body, which is kept, and keeps the rest to itself.
func TestAttemptsGiveWayDuringAnUpload(t *testing.T) {
	const whole, large, small = "Transfer-Encoding: chunked\r\n\r\n7\r\na body \r\n", "Content-Length: 100000\r\n\r\na body ", "Content-Length: 100\r\n\r\na body "
	for name, tc := range map[string]struct {
		app  mesh.AppProtocol
		sent string
		want string // what the last attempt is answered with, if it is
	}{
		"HTTP/1.1":                {mesh.AppUnknown, whole, "a body "},
		"HTTP/1.1, of known size": {mesh.AppUnknown, large, "no body"},
		"HTTP/1.1, small":         {mesh.AppUnknown, small, "no body"},
		"HTTP/2":                  {mesh.AppHTTP2, whole, "a body "},
	} {
		for _, answered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, answered in the end %v", name, answered), func(t *testing.T) {
				inMemory(t, func(t *testing.T, in network) {
					s := newSceneIn(t, in, Limits{StallTime: 10 * patience, RetryBytes: 200_000}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
						r.Backends, r.BackendTimeout = []mesh.HTTPBackend{to("a")}, time.Second
						r.Retry = &mesh.HTTPRetry{Attempts: 2, Codes: []uint16{504}, Backoff: time.Millisecond}
					}))))
					var asked atomic.Int32
					s.backend("a", tc.app, func(w http.ResponseWriter, r *http.Request) {
						if asked.Add(1) < 3 || !answered {
							io.Copy(io.Discard, r.Body) // until it is cut
							return
						}
						http.NewResponseController(w).EnableFullDuplex()
						if tc.sent == whole {
							io.CopyN(w, r.Body, 7)
						} else { // the first bytes of it wait for more
							io.WriteString(w, "no body")
						}
					})
					nc, from := s.dial()
					nc.SetDeadline(time.Now().Add(patience))
					fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: x\r\n"+tc.sent)
					response, err := http.ReadResponse(from, nil)
					if err != nil {
						t.Fatalf("%v\n%s", err, s.logs)
					}
					text, err := io.ReadAll(response.Body)
					nc.Close() // or it would be listened to
					if err != nil {
						t.Error(err)
					}
					if answered {
						if response.StatusCode != http.StatusOK || string(text) != tc.want {
							t.Errorf("answered %d %q", response.StatusCode, text)
						}
					} else if response.StatusCode != http.StatusGatewayTimeout || response.Header.Get(headerReason) != string(ReasonTimeout) {
						t.Errorf("answered %d %q", response.StatusCode, text)
					}
					s.until("it is in the log", func() bool { return s.logs.count(`"attempts":3`) > 0 })
				})
			})
		}
	}
}
