// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
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
