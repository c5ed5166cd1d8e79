// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What a client says of itself is a stranger's word at the end of a request, too, announced or not, in each spelling; other trailers pass.
func TestTrailersOfStrangers(t *testing.T) {
	for name, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		for _, announced := range []string{"X-Sum, X-Forwarded-Client-Cert, X-Forwarded-For, X_Forwarded_Proto, Forwarded", "X-Sum", "X-Forwarded-For"} {
			s := newScene(t, Limits{}, toA())
			seen := make(chan http.Header, 1)
			s.backend("a", app, func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				seen <- r.Trailer
			})
			nc, in := s.dial()
			s.asks(nc, in, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: "+announced+"\r\n\r\n2\r\nhi\r\n0\r\n"+
				"X-Sum: 1\r\nX-Forwarded-Client-Cert: admin\r\nX-Forwarded-For: 10.0.0.1\r\nX_Forwarded_Proto: https\r\nForwarded: for=10.0.0.1\r\nKeep-Alive: timeout=1\r\n\r\n")
			want := []string{"X-Sum"}
			if announced == "X-Forwarded-For" {
				want = nil
			}
			if got := <-seen; !slices.Equal(slices.Sorted(maps.Keys(got)), want) || want != nil && got.Get("X-Sum") != "1" {
				t.Errorf("%s, announced %s: %q arrive, want %q", name, announced, got, want)
			}
		}
	}
}

// Trailers that come after a request was sent for the second time are sent with it.
func TestTrailersOfRetries(t *testing.T) {
	for name, app := range map[string]mesh.AppProtocol{"HTTP/1.1": mesh.AppUnknown, "HTTP/2": mesh.AppHTTP2} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
				r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}
			}))))
			asked, seen := make(chan struct{}, 3), make(chan http.Header, 1)
			s.backend("a", app, func(w http.ResponseWriter, r *http.Request) {
				if asked <- struct{}{}; len(asked) < 3 {
					_ = http.NewResponseController(w).EnableFullDuplex() // or the library would wait for the body before it answers
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				io.Copy(io.Discard, r.Body)
				seen <- r.Trailer
			})
			nc, from := s.dial()
			io.WriteString(nc, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Other\r\n\r\n5\r\nhello\r\n")
			s.until("all attempts came", func() bool { return len(asked) == 3 })
			s.asks(nc, from, "0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n")
			if got := <-seen; got.Get("X-Sum") != "1" || got.Get("X-Other") != "2" {
				t.Errorf("%q arrive", got)
			}
		})
	}
}

// A request with trailers has a connection in HTTP/2 for itself: a backend that has answered before they come may take them for the beginning of a request that is over, and end the connection, whoever else has it.
func TestTrailersComeAlone(t *testing.T) {
	s := newScene(t, Limits{}, toA())
	came, end := make(chan string, 3), make(chan struct{})
	s.backend("a", mesh.AppHTTP2, func(w http.ResponseWriter, r *http.Request) {
		came <- r.RemoteAddr
		if r.Method == http.MethodPost {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, r.Trailer.Get("X-Sum"))
			return
		}
		_ = http.NewResponseController(w).Flush()
		<-end
		io.WriteString(w, "whole")
	})
	response, err := s.client().Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	shared := <-came
	for range 2 {
		nc, in := s.dial()
		_, text := s.asks(nc, in, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")
		if own := <-came; own == shared || text != "1" {
			t.Errorf("the trailer is %q, and came by %s, as another client's request did by %s", text, own, shared)
		}
	}
	close(end)
	if text, err := io.ReadAll(response.Body); string(text) != "whole" || err != nil {
		t.Errorf("another client is answered %q, %v", text, err)
	}
}

// Requests with trailers may come together, and none is in another one's way; what is answered after their connection is closed, or while it is, is whole.
func TestTrailersComeTogether(t *testing.T) {
	in := &tallied{network: loopback{}}
	s := newSceneIn(t, in, Limits{}, toA())
	s.backend("a", mesh.AppHTTP2, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.Write(body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
	})
	client, large := s.client(), strings.Repeat("x", 300<<10)
	var all sync.WaitGroup
	for range 6 { // a backend built on net/http gives a connection 2 s to begin, which many more would not all have on a busy machine
		all.Go(func() {
			for range 3 {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", io.MultiReader(strings.NewReader(large))) // of unknown length
				r.Trailer = http.Header{"X-Sum": {"1"}}
				response, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				text, err := io.ReadAll(response.Body)
				response.Body.Close()
				if string(text) != large || err != nil || response.Trailer.Get("X-Sum") != "1" {
					t.Errorf("answered %s with %d bytes, %v, and trailers %q", response.Status, len(text), err, response.Trailer)
				}
			}
		})
	}
	all.Wait()
	client.CloseIdleConnections()
	s.until("all their connections are closed", func() bool { return in.open.Load() == 0 })
}

// tallied is a network that knows how many of the connections that were dialed are open.
type tallied struct {
	network
	open atomic.Int64
}

func (n *tallied) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := n.network.dial(ctx, network, address)
	if err == nil {
		n.open.Add(1)
		nc = &talliedConn{nc, sync.OnceFunc(func() { n.open.Add(-1) })}
	}
	return nc, err
}

type talliedConn struct {
	net.Conn
	closed func()
}

func (c *talliedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
