// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestListenerBecomesHTTPS: a connection that was made in the clear is not served by it.
func TestListenerBecomesHTTPS(t *testing.T) {
	web := func(protocol mesh.ListenerProtocol, certificates ...mesh.Certificate) mesh.Listener {
		l := listener("web", "a.example.com", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} })))
		l.Port, l.Protocol, l.Certificates = 443, protocol, certificates
		return l
	}
	s := newScene(t, Limits{}, web(mesh.ListenerHTTP))
	s.backend("a", mesh.AppUnknown, says("a"))
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	ask := func() *http.Response {
		t.Helper()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
		response, err := http.ReadResponse(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response
	}
	if got := ask(); got.StatusCode != http.StatusOK {
		t.Fatal(got.Status)
	}
	s.port.Configure([]mesh.Listener{web(mesh.ListenerHTTPS, certificate(t, "a.example.com"))})
	if got := ask(); got.StatusCode != http.StatusMisdirectedRequest || !got.Close {
		t.Errorf("%s, closes: %v; want 421 and the end of the connection", got.Status, got.Close)
	}
}
