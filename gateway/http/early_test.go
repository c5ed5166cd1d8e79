// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Answers of 1xx lose what is about the backend's connection, as the one that follows them does: RFC 9110, 7.6.1.
func TestEarlyAnswersWithoutHops(t *testing.T) {
	for name, request := range map[string]string{
		"directly":       "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"by the library": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"for an upgrade": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		s := newScene(t, Limits{}, toA())
		s.rawBackend("a", func(_ int, in *bufio.Reader, out net.Conn) {
			if _, _, ok := asked(in); ok {
				io.WriteString(out, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		nc, in := s.dial()
		nc.SetDeadline(time.Now().Add(patience))
		io.WriteString(nc, request)
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, s.logs)
		}
		if got := slices.Sorted(maps.Keys(r.Header)); r.StatusCode != http.StatusEarlyHints || !slices.Equal(got, []string{"Link"}) {
			t.Errorf("%s: answered %d with %q", name, r.StatusCode, r.Header)
		}
		if r, text := s.asks(nc, in, ""); r.StatusCode != http.StatusOK || text != "ok" {
			t.Errorf("%s: then %d %q", name, r.StatusCode, text)
		}
	}
}

// A backend may say any number of times that it works on a request.
func TestManyEarlyAnswers(t *testing.T) {
	for _, by := range []string{"directly", "by the library"} {
		inMemory(t, func(t *testing.T, in network) {
			s := newSceneIn(t, in, Limits{}, toA())
			s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
				for range 100 {
					w.WriteHeader(http.StatusProcessing)
				}
				io.WriteString(w, "done")
			})
			nc, from := s.dial()
			nc.SetDeadline(time.Now().Add(patience))
			request := "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
			if by == "by the library" {
				request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
			}
			io.WriteString(nc, request)
			for n := 0; ; n++ {
				r, err := http.ReadResponse(from, nil)
				if err == nil && r.StatusCode == http.StatusProcessing {
					continue
				}
				if err != nil || r.StatusCode != http.StatusOK || n != 100 {
					t.Errorf("%s: after %d answers of 102: %v, %v\n%s", by, n, r, err, s.logs)
				}
				return
			}
		})
	}
}

// A client of HTTP/1.0, which would take an answer of 1xx for the real one, gets none, and no other protocol either: RFC 9110, 15.2 and 7.8.
func TestNoEarlyAnswersInHTTP10(t *testing.T) {
	for name, request := range map[string]string{
		"directly":       "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
		"by the library": "POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("x", 70000),
		"for an upgrade": "GET / HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
	} {
		inMemory(t, func(t *testing.T, in network) {
			s := newSceneIn(t, in, Limits{}, toA())
			s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusEarlyHints)
				if r.Header.Get("Upgrade") != "" {
					w.Header().Set("Connection", "Upgrade")
					w.Header().Set("Upgrade", "echo")
					w.WriteHeader(http.StatusSwitchingProtocols)
					return
				}
				io.WriteString(w, "done")
			})
			nc, from := s.dial()
			nc.SetDeadline(time.Now().Add(patience))
			io.WriteString(nc, request)
			if line, err := from.ReadString('\n'); !strings.Contains(line, " 200 ") {
				t.Errorf("%s: answered %q first, %v\n%s", name, line, err, s.logs)
			}
		})
	}
}
