// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// backendFor bounds the time of the backend a.
func backendFor(limit time.Duration) mesh.Listener {
	return listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends, r.BackendTimeout = []mesh.HTTPBackend{to("a")}, limit
	})))
}

// The time for a backend is for the whole of its answer: one that does not end breaks off.
func TestTimeIsUpDuringAnAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		app          mesh.AppProtocol
		method, body string
	}{
		"of a plain request":       {mesh.AppUnknown, "GET", ""},
		"of one that is not":       {mesh.AppUnknown, "POST", strings.Repeat("x", directBody+1)},
		"of a backend in HTTP/2":   {mesh.AppHTTP2, "GET", ""},
		"of an upload in HTTP/2":   {mesh.AppHTTP2, "POST", "hello"},
		"of a small upload":        {mesh.AppUnknown, "POST", "hello"},
		"of a request by DELETE":   {mesh.AppUnknown, "DELETE", ""},
		"of one with no sized end": {mesh.AppUnknown, "PUT", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, in network) {
				s := newSceneIn(t, in, Limits{}, backendFor(time.Second))
				s.backend("a", tc.app, func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					io.WriteString(w, "begun")
					http.NewResponseController(w).Flush()
					<-r.Context().Done()
				})
				r, err := http.NewRequestWithContext(t.Context(), tc.method, "http://x/", strings.NewReader(tc.body))
				if err != nil {
					t.Fatal(err)
				}
				response, err := s.client().Do(r)
				if err != nil {
					t.Fatalf("%v\n%s", err, s.logs)
				}
				defer response.Body.Close()
				if text, err := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || string(text) != "begun" || err == nil {
					t.Errorf("answered %d %q, and then %v", response.StatusCode, text, err)
				}
				s.drain()
				if !strings.Contains(s.logs.String(), `"status":200,"reason":"timeout"`) {
					t.Errorf("the log does not say why: %s", s.logs)
				}
			})
		})
	}
}

// What follows an upgrade is no answer, and has no time.
func TestUpgradedConnectionsOutliveTheTimeForAnAnswer(t *testing.T) {
	inMemory(t, func(t *testing.T, in network) { testUpgradedConnectionsOutlive(t, in, backendFor) })
}

// Nor is it of the time for the request: that one the gateway has responded to.
func TestUpgradedConnectionsOutliveTheTimeForARequest(t *testing.T) {
	inMemory(t, func(t *testing.T, in network) {
		testUpgradedConnectionsOutlive(t, in, func(limit time.Duration) mesh.Listener {
			return listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
				r.Backends, r.RequestTimeout = []mesh.HTTPBackend{to("a")}, limit
			})))
		})
	})
}

func testUpgradedConnectionsOutlive(t *testing.T, memory network, bound func(limit time.Duration) mesh.Listener) {
	const limit = 500 * time.Millisecond
	s := newSceneIn(t, memory, Limits{}, bound(limit))
	s.rawBackend("a", func(_ int, in *bufio.Reader, out net.Conn) {
		if _, _, ok := asked(in); ok {
			io.WriteString(out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(out, in)
		}
	})
	nc, in := s.dial()
	nc.SetDeadline(time.Now().Add(patience))
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r, err := http.ReadResponse(in, nil)
	if err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v\n%s", r, err, s.logs)
	}
	time.Sleep(2 * limit)
	io.WriteString(nc, "hello\n")
	if text, err := in.ReadString('\n'); text != "hello\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// A backend that does not answer the wish for another protocol has the time for the request, as for any other.
func TestUpgradesInTime(t *testing.T) {
	inMemory(t, func(t *testing.T, in network) {
		s := newSceneIn(t, in, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
			r.Backends, r.RequestTimeout = []mesh.HTTPBackend{to("a")}, time.Second
		}))))
		s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		response, _ := s.ask(s.client(), "GET", "http://x/", "", "Connection", "Upgrade", "Upgrade", "echo")
		if response.StatusCode != http.StatusGatewayTimeout || response.Header.Get(headerReason) != string(ReasonTimeout) {
			t.Errorf("answered %d %s\n%s", response.StatusCode, response.Header.Get(headerReason), s.logs)
		}
	})
}
