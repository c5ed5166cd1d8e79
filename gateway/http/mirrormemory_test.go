// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Clients that send most of a body and then wait cannot have the gateway hold more than a certain amount: beyond it requests go on without a copy.
func TestBodyMemory(t *testing.T) {
	s := newScene(t, Limits{BodyMemory: 2000}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends = []mesh.HTTPBackend{to("a")}
		r.Filters.Mirrors = []mesh.HTTPMirror{{Backend: to("b"), Numerator: 1, Denominator: 1}}
	}))))
	s.backend("a", mesh.AppUnknown, says("a"))
	s.backend("b", mesh.AppUnknown, says("b"))
	slow, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	slow.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(slow, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 900\r\n\r\n%s", strings.Repeat("x", 899))
	s.until("the body is kept", func() bool { return s.server.copied.inUse() == 899 })
	client, body := s.client(), strings.Repeat("y", 200)
	if response, text := s.ask(client, "POST", "http://x/", body); response.StatusCode != http.StatusOK || text != "a"+body {
		t.Errorf("%d %q", response.StatusCode, text)
	}
	if n := s.counted("isthmus_gateway_http_mirrored_total", "skipped"); n != 1 {
		t.Errorf("%v copies were not made, want 1", n)
	}
	io.WriteString(slow, "x")
	if answer, err := io.ReadAll(slow); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Errorf("%q, %v", answer, err)
	}
	s.until("the body is given up", func() bool { return s.server.copied.inUse() == 0 })
	s.until("the copy was sent", func() bool { return s.counted("isthmus_gateway_http_mirrored_total", "sent") == 1 })
}
