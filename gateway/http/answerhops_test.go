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
)

// What an answer says is about its connection stays there, also if the connection ends with it: the library takes the list of it away then.
func TestAnswersThatEndConnectionsLoseTheirHops(t *testing.T) {
	const rest = "X-Hop: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
	for name, pieces := range map[string][]string{
		"at once":              {"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\n" + rest},
		"in pieces":            {"HTTP/1.1 200 OK\r\nConn", "ection: close, X-Hop\r\nX-H", "op: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r", "\nok"},
		"one large":            {"HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 3*directBuffer) + "\r\nConnection: close, X-Hop\r\n" + rest},
		"in two lists":         {"HTTP/1.1 200 OK\r\nconnection: X-Hop\r\nCONNECTION: Close\r\n" + rest},
		"in a folded line":     {"HTTP/1.1 200 OK\r\nConnection: close,\r\n X-Hop\r\n" + rest},
		"in a line of its own": {"HTTP/1.1 200 OK\r\nConnection:\r\n close, X-Hop\r\n" + rest},
		"by lines alone":       {"HTTP/1.1 200 OK\nConnection: close, X-Hop\n" + strings.ReplaceAll(rest, "\r", "")},
		"after an early one":   {"HTTP/1.1 103 Early Hints\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\n" + rest},
		"of HTTP/1.0":          {"HTTP/1.0 200 OK\r\nConnection: close, X-Hop\r\n" + rest},
	} {
		for by, request := range map[string]string{
			"the direct way":              "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
			"the library, with an upload": "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
			"the library, for an upgrade": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
		} {
			t.Run(name+", by "+by, func(t *testing.T) {
				s := newScene(t, Limits{}, toA())
				s.rawBackend("a", func(_ int, in *bufio.Reader, out net.Conn) {
					if _, _, ok := asked(in); ok {
						for _, piece := range pieces {
							io.WriteString(out, piece)
						}
					}
				})
				nc, in := s.dial()
				nc.SetDeadline(time.Now().Add(patience))
				io.WriteString(nc, request)
				for status := 0; status < http.StatusOK; {
					r, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatalf("%v\n%s", err, s.logs)
					}
					if status = r.StatusCode; r.Header.Get("X-Hop") != "" || status == http.StatusOK && r.Header.Get("X-Kept") == "" {
						t.Errorf("answered %d with %q", status, r.Header)
					}
				}
			})
		}
	}
}
