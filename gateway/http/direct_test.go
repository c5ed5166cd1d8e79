// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// rawBackend gives each connection, with its number from 1 on, to f, which closes it by returning.
func (s *scene) rawBackend(name string, f func(n int, in *bufio.Reader, out net.Conn)) {
	s.t.Helper()
	socket, err := s.network.listen(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var running sync.WaitGroup
	var open sync.Map
	running.Go(func() {
		for n := 1; ; n++ {
			nc, err := socket.Accept()
			if err != nil {
				return
			}
			open.Store(nc, true)
			running.Go(func() {
				defer nc.Close()
				f(n, bufio.NewReader(nc), nc)
			})
		}
	})
	s.t.Cleanup(func() {
		socket.Close()
		open.Range(func(nc, _ any) bool { nc.(net.Conn).Close(); return true })
		running.Wait()
	})
	s.endpoint(name, mesh.AppUnknown, socket.Addr().(*net.TCPAddr).AddrPort())
}

// asked reads a request with its body; false: there is no more.
func asked(in *bufio.Reader) (*http.Request, string, bool) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, "", false
	}
	body, err := io.ReadAll(r.Body)
	return r, string(body), err == nil
}

// What endpoints may do with a connection that is kept, and what becomes of the next request.
func TestKeptConnections(t *testing.T) {
	ok := func(out io.Writer, text string) {
		fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
	for _, tc := range []struct {
		name    string
		backend func(n int, in *bufio.Reader, out net.Conn)
		methods string // of the requests, one after another
		want    string // statuses, with the number of the connection
	}{
		{"used again", func(n int, in *bufio.Reader, out net.Conn) {
			for _, _, more := asked(in); more; _, _, more = asked(in) {
				ok(out, fmt.Sprint(n))
			}
		}, "GET POST GET", "200:1 200:1 200:1"},
		{"closed after an answer that says so", func(n int, in *bufio.Reader, out net.Conn) {
			asked(in)
			fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n%d", n)
			asked(in)
		}, "GET POST GET", "200:1 200:2 200:3"},
		{"an answer until the end of the connection", func(n int, in *bufio.Reader, out net.Conn) {
			asked(in)
			fmt.Fprintf(out, "HTTP/1.1 200 OK\r\n\r\n%d", n)
		}, "GET GET", "200:1 200:2"},
		{"closed when the next request has come", func(n int, in *bufio.Reader, out net.Conn) {
			asked(in)
			ok(out, fmt.Sprint(n))
			asked(in) // and gives no answer
		}, "GET GET", "200:1 200:2"},
		{"closed when the next request has come, which must not be repeated", func(n int, in *bufio.Reader, out net.Conn) {
			asked(in)
			ok(out, fmt.Sprint(n))
			asked(in)
		}, "POST POST POST", "200:1 502: 200:2"},
		{"half an answer to the next request", func(n int, in *bufio.Reader, out net.Conn) {
			asked(in)
			ok(out, fmt.Sprint(n))
			asked(in)
			fmt.Fprint(out, "HTTP/1.1 2")
		}, "GET GET", "200:1 502:"},
		{"more than was asked for", func(n int, in *bufio.Reader, out net.Conn) {
			for _, _, more := asked(in); more; _, _, more = asked(in) {
				fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%dHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen", n)
			}
		}, "GET GET", "200:1 200:2"},
		{"no body where one may not be", func(n int, in *bufio.Reader, out net.Conn) {
			for _, _, more := asked(in); more; _, _, more = asked(in) {
				fmt.Fprintf(out, "HTTP/1.1 204 No Content\r\nX: %d\r\n\r\n", n)
			}
		}, "GET GET", "204: 204:"},
		{"answers of 1xx before it", func(n int, in *bufio.Reader, out net.Conn) {
			for _, _, more := asked(in); more; _, _, more = asked(in) {
				fmt.Fprint(out, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
				ok(out, fmt.Sprint(n))
			}
		}, "GET GET", "200:1 200:1"},
		{"nothing but answers of 1xx", func(_ int, in *bufio.Reader, out net.Conn) {
			asked(in)
			for range answerHeaderBytes {
				if _, err := fmt.Fprint(out, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
			}
			asked(in)
		}, "GET", "502:"},
		{"another protocol", func(_ int, in *bufio.Reader, out net.Conn) {
			asked(in)
			fmt.Fprint(out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n")
			asked(in)
		}, "GET", "502:"},
		{"headers without end", func(_ int, in *bufio.Reader, out net.Conn) {
			asked(in)
			fmt.Fprint(out, "HTTP/1.1 200 OK\r\n")
			for range 2 * answerHeaderBytes / 1024 {
				if _, err := fmt.Fprintf(out, "X-A: %s\r\n", strings.Repeat("a", 1024)); err != nil {
					return
				}
			}
		}, "GET", "502:"},
		{"chunks and trailers", func(n int, in *bufio.Reader, out net.Conn) {
			for _, _, more := asked(in); more; _, _, more = asked(in) {
				fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\n%d\r\n0\r\nX-Sum: 1\r\n\r\n", n)
			}
		}, "GET POST", "200:1 200:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene(t, Limits{}, listener("l", "", route("r", nil, mesh.HTTPRule{Matches: []mesh.HTTPMatch{prefix("/")}, Backends: []mesh.HTTPBackend{to("raw")}})))
			s.rawBackend("raw", tc.backend)
			client := s.client()
			var got []string
			for _, method := range strings.Fields(tc.methods) {
				body := ""
				if method == http.MethodPost {
					body = "some"
				}
				response, text := s.ask(client, method, "http://shop.example.com/", body)
				if response.StatusCode >= http.StatusBadRequest {
					text = ""
				}
				got = append(got, fmt.Sprintf("%d:%s", response.StatusCode, text))
			}
			if got := strings.Join(got, " "); got != tc.want {
				t.Errorf("%s, want %s\n%s", got, tc.want, s.logs)
			}
		})
	}
}

// A client that leaves ends what was asked of the endpoint, before the answer and in its middle.
func TestLeavingEndsTheQuestion(t *testing.T) {
	for name, part := range map[string]string{"before the answer": "", "in the middle of it": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, Limits{}, listener("l", "", route("r", nil, mesh.HTTPRule{Matches: []mesh.HTTPMatch{prefix("/")}, Backends: []mesh.HTTPBackend{to("raw")}})))
			begun, left := make(chan struct{}), make(chan struct{})
			s.rawBackend("raw", func(_ int, in *bufio.Reader, out net.Conn) {
				asked(in)
				fmt.Fprint(out, part)
				close(begun)
				asked(in) // until the gateway ends it
				close(left)
			})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shop.example.com/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				if response, err := s.client().Do(r); err == nil {
					_, _ = io.ReadAll(response.Body)
					response.Body.Close()
				}
			}()
			<-begun
			leave()
			<-left
			<-answered
		})
	}
}

// Many at once share connections, and nobody gets what another asked for.
func TestKeptConnectionsDoNotMix(t *testing.T) {
	s := newScene(t, Limits{}, listener("l", "", route("r", nil, mesh.HTTPRule{Matches: []mesh.HTTPMatch{prefix("/")}, Backends: []mesh.HTTPBackend{to("web")}})))
	s.backend("web", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.URL.Path, body, strings.Repeat("x", len(body)*1000))
	})
	var wrong atomic.Int32
	var clients sync.WaitGroup
	for n := range 16 {
		client := s.client()
		clients.Go(func() {
			for i := range 50 {
				path, body := fmt.Sprintf("/%d/%d", n, i), strings.Repeat("b", i%7)
				method := http.MethodGet
				if body != "" {
					method = http.MethodPost
				}
				r, err := http.NewRequestWithContext(t.Context(), method, "http://shop.example.com"+path, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				response, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				text, _ := io.ReadAll(response.Body)
				response.Body.Close()
				if string(text) != fmt.Sprintf("%s %s %s", path, body, strings.Repeat("x", len(body)*1000)) {
					wrong.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d answers are not to what was asked", n)
	}
}
