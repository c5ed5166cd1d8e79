// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// raw sends bytes and gives the statuses of the answers that come until the connection ends.
func (s *scene) raw(request string) []int {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	var out []int
	for from := bufio.NewReader(conn); ; {
		response, err := http.ReadResponse(from, nil)
		if err != nil {
			return out
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		out = append(out, response.StatusCode)
	}
}

// What two readers could understand in two ways is refused, or reaches the backend in one way only: the backend never sees a request that the
// gateway did not see.
func TestSmuggling(t *testing.T) {
	var smuggled atomic.Int32
	s := newScene(t, Limits{IdleTime: 50 * time.Millisecond}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if strings.HasPrefix(r.URL.Path, "/smuggled") || len(r.TransferEncoding) > 0 && r.ContentLength > 0 {
			smuggled.Add(1)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	const hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, tc := range map[string]struct {
		request string
		want    string
	}{
		"two lengths":           {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: " + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden, "[400]"},
		"length with sign":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +" + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden, "[400]"},
		"odd encoding":          {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n" + hidden, "[501]"},
		"two encodings":         {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden, "[501]"},
		"space before colon":    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : " + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden, "[400]"},
		"two hosts":             {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "[400]"},
		"no host":               {"GET / HTTP/1.1\r\n\r\n", "[400]"},
		"folded header":         {"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n Content-Length: 3\r\n\r\n", "[204]"},
		"name with a newline":   {"GET / HTTP/1.1\r\nHost: x\r\nX-A\n: b\r\n\r\n", "[400]"},
		"connect":               {"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", "[501]"},
		"bad chunk":             {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + hidden, "[400]"},
		"headers without end":   {"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", "[431]"},
		"upgrade without right": {"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "[204]"},
	} {
		if got := fmt.Sprint(s.raw(tc.request)); got != tc.want {
			t.Errorf("%s: answers %s, want %s", name, got, tc.want)
		}
	}
	// A length beside chunks counts for nothing, and is not passed on.
	if got := fmt.Sprint(s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")); got != "[204]" && got != "[400]" {
		t.Errorf("a length beside chunks answers %s", got)
	}
	if n := smuggled.Load(); n != 0 {
		t.Errorf("%d requests reached the backend by stealth", n)
	}
}

// Who sends nothing, or too slowly, is not waited for.
func TestSlowClients(t *testing.T) { inMemory(t, testSlowClients) }

func testSlowClients(t *testing.T, in network) {
	const limit = 50 * time.Millisecond
	s := newSceneIn(t, in, Limits{HeaderTime: limit, StallTime: limit}, toA())
	s.backend("a", mesh.AppUnknown, says("a"))
	for name, tc := range map[string]struct{ request, answer string }{
		"nothing": {"", ""},
		"headers": {"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", ""},
		"body":    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", "HTTP/1.1 408 Request Timeout"},
	} {
		began := time.Now()
		conn, from := s.dial()
		conn.SetDeadline(began.Add(patience))
		io.WriteString(conn, tc.request)
		_, _ = from.Peek(1) // the answer, or the end
		took := time.Since(began)
		text, err := io.ReadAll(from)
		if first, _, _ := strings.Cut(string(text), "\r\n"); err != nil || first != tc.answer {
			t.Errorf("%s: answered %q, and then %v", name, text, err)
		}
		if took != limit {
			t.Errorf("%s: was waited for %v, want %v", name, took, limit)
		}
	}
	// An answer that takes longer than that is waited for, as the client is not to blame.
	s.backend("slow", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * limit)
		io.Copy(w, r.Body)
	})
	s.port.Configure([]mesh.Listener{listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("slow")} })))})
	client := s.client()
	for range 2 { // on the same connection
		if response, text := s.ask(client, "POST", "http://x/", "hello"); response.StatusCode != http.StatusOK || text != "hello" {
			t.Errorf("%d %q", response.StatusCode, text)
		}
	}
}
