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

// refusing is a scene whose backend answers 401 before it has seen a body.
func refusing(t *testing.T) *scene {
	s := newScene(t, Limits{StallTime: time.Hour}, listener("web", "", route("r", nil, with(rule("a", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex() // or the library would wait for the body before it answers
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "who are you?")
	})
	return s
}

// An answer that comes while its request's body is on its way is sent at once, and whole, whatever the client goes on to send. The connection ends after it, and the
// answer says so if the body is large, or was asked for, which the answer may forestall here.
func TestEarlyAnswer(t *testing.T) {
	for name, head := range map[string]string{
		"of known length": "Content-Length: 1000000\r\n\r\n", "small": "Content-Length: 60000\r\n\r\n", "in chunks": "Transfer-Encoding: chunked\r\n\r\n40000\r\n",
	} {
		for _, goesOn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the client goes on: %v", name, goesOn), func(t *testing.T) {
				s := refusing(t)
				conn, err := net.Dial("tcp", s.address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+head+"begin")
				reader := bufio.NewReader(conn)
				if goesOn { // before it looks at the answer
					if _, err := reader.Peek(1); err != nil {
						t.Fatal(err)
					}
					if _, err := io.WriteString(conn, strings.Repeat("x", 50_000)); err != nil {
						t.Errorf("what the client still sends is refused: %v", err)
					}
				}
				response, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatalf("%v\n%s", err, s.logs)
				}
				body, err := io.ReadAll(response.Body)
				if response.StatusCode != http.StatusUnauthorized || string(body) != "who are you?" || err != nil || name == "of known length" && !response.Close {
					t.Errorf("%s %q, %v, close %v", response.Status, body, err, response.Close)
				}
				conn.(*net.TCPConn).CloseWrite()
				if n, err := reader.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("after the answer: %d bytes, %v", n, err)
				}
				s.until("the request is over", func() bool { return strings.Contains(s.logs.String(), `"msg":"request"`) })
			})
		}
	}
}

// In HTTP/2 the stream ends with the answer, and the client is told without an error that nobody wants the rest.
func TestEarlyAnswerInHTTP2(t *testing.T) {
	s := refusing(t)
	client := s.client()
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	client.Transport.(*http.Transport).Protocols = protocols
	from, into := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", from)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = io.WriteString(into, strings.Repeat("x", 1000))
		}
		ended <- err
	}()
	response, err := client.Do(r)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.logs)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); response.StatusCode != http.StatusUnauthorized || string(body) != "who are you?" || err != nil {
		t.Errorf("%s %q, %v", response.Status, body, err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the client is not told that nobody wants the rest")
	}
	if second, text := s.ask(client, http.MethodGet, "http://x/", ""); second.StatusCode != http.StatusUnauthorized || text != "who are you?" {
		t.Errorf("the connection is of no use any more: %s %q", second.Status, text)
	}
}

// An answer to be tried again for does not wait for the rest of a small body either, and the next attempt has it whole.
func TestEarlyAnswerIsTriedAgain(t *testing.T) {
	s := newScene(t, Limits{StallTime: time.Hour}, listener("web", "", route("r", nil, with(rule("a", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &mesh.HTTPRetry{Attempts: 2, Codes: []uint16{503}, Backoff: time.Millisecond}
	}))))
	var attempts atomic.Int32
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		if attempts.Add(1) < 3 {
			http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s, %v", body, err)
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	reader := bufio.NewReader(conn)
	for round := range 2 { // the connection stays, as the body was read in the end
		attempts.Store(0)
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbegin")
		s.until("there was a third attempt", func() bool { return attempts.Load() == 3 })
		io.WriteString(conn, " end")
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, s.logs)
		}
		if body, err := io.ReadAll(response.Body); string(body) != "begin end, <nil>" || err != nil || response.Close {
			t.Errorf("round %d: %s %q, %v, close %v", round, response.Status, body, err, response.Close)
		}
	}
}
