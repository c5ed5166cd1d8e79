// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"strings"
	"testing"
)

// "OPTIONS *" asks about the server itself, of which there is nothing to say: it is refused like everything that is no path, counted and logged.
func TestOptionsOfTheServer(t *testing.T) {
	s := newScene(t, Limits{}, toA())
	nc, in := s.dial()
	r, _ := s.asks(nc, in, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	if r.StatusCode != http.StatusBadRequest || r.Header.Get(headerReason) != string(ReasonBadPath) {
		t.Errorf("answered %d %q", r.StatusCode, r.Header.Get(headerReason))
	}
	s.drain()
	if n := s.counted("isthmus_gateway_http_requests_total", string(ReasonBadPath)); n != 1 || !strings.Contains(s.logs.String(), `"reason":"bad_path"`) {
		t.Errorf("%v are counted\n%s", n, s.logs)
	}
}
