// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// gathered sends what was written with one system call.
type gathered struct {
	net.Conn
	w *bufio.Writer
}

func (g *gathered) Write(p []byte) (int, error) { return g.w.Write(p) }

// A kept connection in TLS is left if more came with an answer than was asked for, or the end, although the socket has nothing: the next request's client would be given another
// one's answer.
func TestSilentInTLS(t *testing.T) {
	own := httptest.NewTLSServer(nil) // for its certificate
	defer own.Close()
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	for name, tc := range map[string]struct {
		then func(secure *tls.Conn)
		want bool
	}{
		"nothing more":  {func(*tls.Conn) {}, true},
		"another one":   {func(secure *tls.Conn) { io.WriteString(secure, answer) }, false},
		"the end of it": {func(secure *tls.Conn) { secure.CloseWrite() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan struct{})
			defer func() { <-done }()
			go func() {
				defer close(done)
				nc, err := l.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				out := &gathered{nc, bufio.NewWriterSize(nc, 1<<16)}
				secure := tls.Server(&flushing{out}, &tls.Config{Certificates: own.TLS.Certificates, SessionTicketsDisabled: true})
				if _, err := http.ReadRequest(bufio.NewReader(secure)); err != nil {
					return
				}
				io.WriteString(secure, answer)
				tc.then(secure)
				nc.SetWriteDeadline(time.Time{}) // CloseWrite has set one
				out.w.Flush()
				io.Copy(io.Discard, nc)
			}()
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			c := newDirectConn(tls.Client(nc, &tls.Config{InsecureSkipVerify: true}), place{}, nil)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := c.ask(r)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(response.Body); err != nil || string(body) != "hi" {
				t.Fatalf("%q, %v", body, err)
			}
			if got := c.silent(); got != tc.want {
				t.Errorf("silent: %v", got)
			}
			if tc.want && !c.silent() {
				t.Error("the look itself has left something")
			}
		})
	}
}

// flushing flushes whenever the other side is read from, so that a handshake goes on.
type flushing struct{ *gathered }

func (f *flushing) Read(p []byte) (int, error) {
	if err := f.w.Flush(); err != nil {
		return 0, err
	}
	return f.Conn.Read(p)
}
