// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A backend whose status is none has failed, however it is asked.
func TestStatusThatIsNone(t *testing.T) {
	for name, request := range map[string]string{
		"directly":       "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"with a body":    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
		"by the library": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"for an upgrade": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		for _, status := range []string{"099", "000"} {
			s := newScene(t, Limits{}, toA())
			s.rawBackend("a", func(_ int, in *bufio.Reader, out net.Conn) {
				if _, _, ok := asked(in); ok {
					io.WriteString(out, "HTTP/1.1 "+status+" What\r\nContent-Length: 2\r\n\r\nhi")
				}
			})
			nc, in := s.dial()
			io.WriteString(nc, request)
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Errorf("%s, %s: %v", name, status, err)
			} else if r.StatusCode != http.StatusBadGateway || r.Header.Get(headerReason) != string(ReasonUpstream) {
				t.Errorf("%s, %s: answered %d %q", name, status, r.StatusCode, r.Header.Get(headerReason))
			}
			if nc.Close(); strings.Contains(s.logs.String(), "panic") {
				t.Errorf("%s, %s: %s", name, status, s.logs)
			}
		}
	}
}
