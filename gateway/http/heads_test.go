// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// from gives a client of an address.
func (s *scene) from(address string, h2 bool) *http.Client {
	client := s.client()
	transport := client.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetUnencryptedHTTP2(h2)
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.network.dialFrom(ctx, netip.MustParseAddr(address), s.address)
	}
	return client
}

// What the headers of requests that run hold is bounded, over all connections. One client has no more than is left to the others, and gets another answer as soon as its requests have ended.
func TestHeadersOfRunningRequestsAreBounded(t *testing.T) {
	onlyHeaders := strings.Repeat("x", 20<<10)
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, in network) { // where clients wait for any time
				limit := int64(400 << 10) // half of it is nine requests, or three in HTTP/2, which cost 32 KiB more
				s := newSceneIn(t, in, Limits{HeaderMemory: limit}, byPath("slow", "good"))
				var waiting atomic.Int64
				free := make(chan struct{})
				s.backend("slow", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) {
					waiting.Add(1)
					select {
					case <-free:
					case <-r.Context().Done():
					}
				})
				s.backend("good", mesh.AppUnknown, says("good"))
				one, other := s.from("127.0.0.1", h2), s.from("127.0.0.2", h2)
				ask := func(client *http.Client, path string, headers ...string) (int, string) {
					t.Helper()
					response, body := s.ask(client, http.MethodGet, "http://x/"+path, "", headers...)
					return response.StatusCode, response.Header.Get(headerReason) + body
				}
				held := 0
				for refused := false; !refused; {
					done := make(chan bool, 1)
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/slow", http.NoBody)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("X-Large", onlyHeaders)
					go func() {
						response, err := one.Do(r)
						if err == nil {
							response.Body.Close()
						}
						done <- err == nil && response.StatusCode == http.StatusServiceUnavailable && response.Header.Get(headerReason) == string(ReasonHeaderMemory)
					}()
					s.until("it waits or is refused", func() bool {
						select {
						case refused = <-done:
							if !refused {
								t.Fatal("a request is neither served nor refused for its headers")
							}
							return true
						default:
							return waiting.Load() > int64(held)
						}
					})
					if held = int(waiting.Load()); held > 12 {
						t.Fatalf("%d requests with %d bytes of headers each wait, of %d that may be", held, len(onlyHeaders), limit)
					}
				}
				if want := map[bool]int{false: 9, true: 3}[h2]; held != want {
					t.Errorf("%d requests of one client wait, want %d", held, want)
				}
				if inUse := s.server.heads.inUse(); inUse > limit/2 || inUse < int64(held*len(onlyHeaders)) {
					t.Errorf("%d bytes are counted", inUse)
				}
				s.until("the refusal is counted", func() bool { return s.counted("isthmus_gateway_http_requests_total", string(ReasonHeaderMemory)) == 1 }) // after it is answered
				if h2 {
					response, _ := s.ask(one, http.MethodPost, "http://x/slow", "", "X-Large", onlyHeaders, "Content-Type", "application/grpc")
					if got := response.Header.Get("Grpc-Status"); got != "8" {
						t.Errorf("a call of gRPC is answered %q, %v", got, response.Header)
					}
				}
				if status, text := ask(other, "good", "X-Large", onlyHeaders); status != http.StatusOK || text != "good" {
					t.Errorf("another client is answered %d %q", status, text)
				}
				close(free)
				s.until("what was held is given back", func() bool { return s.server.heads.inUse() == 0 })
				if status, text := ask(one, "good", "X-Large", onlyHeaders); status != http.StatusOK || text != "good" {
					t.Errorf("the client whose requests have ended is answered %d %q", status, text)
				}
				if !strings.Contains(s.logs.String(), `"path":"/slow","protocol":"`+name) {
					t.Error("the refusal is not in the log")
				}
			})
		})
	}
}

// What is counted for requests in HTTP/2 that wait for a backend is what they cost, with headers or hardly any: the bound is one of memory.
func TestWhatWaitingRequestsCost(t *testing.T) {
	const streams = 200
	s := newScene(t, Limits{}, byPath("slow"))
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // nobody accepts: what is sent waits in the system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	s.endpoint("slow", mesh.AppUnknown, socket.Addr().(*net.TCPAddr).AddrPort())
	used := func() int64 {
		runtime.GC()
		runtime.GC() // what pools kept is gone after the second one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	for _, size := range []int{10, 12 << 10} {
		t.Run(fmt.Sprint(size, " bytes of headers"), func(t *testing.T) {
			var sent bytes.Buffer
			encoder := hpack.NewEncoder(&sent)
			var frames []byte
			for i := range streams {
				sent.Reset()
				for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/slow"}, {":authority", "shop.example.com"}, {"x-large", fmt.Sprintf("%0*d", size, i)}} {
					if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}); err != nil {
						t.Fatal(err)
					}
				}
				frames = append(frames, frame(frameHeaders, flagEndStream|flagEndHeaders, uint32(2*i+1), sent.Bytes())...)
			}
			before := used()
			s.flood(true, func(write func([]byte) bool) {
				write(frames)
				s.until("all of them wait", func() bool { return s.server.standing.count() == streams })
				counted := s.server.heads.inUse()
				cost := used() - before
				runtime.KeepAlive(frames)
				t.Logf("a request costs %d bytes, %d are counted", cost/streams, counted/streams)
				if cost > counted*2 {
					t.Errorf("%d requests cost %d bytes, and %d are counted", streams, cost, counted)
				}
			})
			s.until("they have ended", func() bool { return s.server.standing.count() == 0 })
		})
	}
}

// count is how many requests run.
func (s *standing) count() int { return len(s.all()) }
