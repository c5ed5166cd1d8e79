// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// firstWhole says of the first whole request of a connection that it is refused, if any is.
func firstWhole(refused bool) func(whole bool) bool {
	return func(whole bool) bool {
		first := whole && refused
		refused = refused && !whole
		return first
	}
}

// What a backend that speaks HTTP/2 says it has not looked at may be sent again, whatever it is (RFC 9113, 8.7): by another connection, or the same one, or to another endpoint, and whole.
func TestRequestsThatABackendHasNotSeen(t *testing.T) {
	const whole = "hello"
	for name, refuse := range map[string]func(f *http2.Framer, stream uint32, leave func()){
		"it ends its connection": func(f *http2.Framer, _ uint32, _ func()) { f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"it ends altogether": func(f *http2.Framer, _ uint32, leave func()) {
			leave()
			f.WriteGoAway(0, http2.ErrCodeNo, nil)
		},
		"it has no room now": func(f *http2.Framer, stream uint32, _ func()) { f.WriteRSTStream(stream, http2.ErrCodeRefusedStream) },
	} {
		for kind, tc := range map[string]struct {
			body  io.Reader
			retry *mesh.HTTPRetry
		}{
			"without a body":        {nil, nil},
			"of known length":       {strings.NewReader(whole), nil},
			"of unknown length":     {struct{ io.Reader }{strings.NewReader(whole)}, nil},
			"with attempts left":    {strings.NewReader(whole), &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}},
			"with no attempts left": {strings.NewReader(whole), &mesh.HTTPRetry{Codes: []uint16{503}}},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
					r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, tc.retry
				}))))
				socket, err := s.network.listen(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer socket.Close()
				leave := func() {
					socket.Close()
					s.backend("a", mesh.AppHTTP2, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
				}
				go func() {
					for refused := false; ; refused = true {
						nc, err := socket.Accept()
						if err != nil {
							return
						}
						go refuses(nc, firstWhole(!refused), func(f *http2.Framer, stream uint32) { refuse(f, stream, leave) })
					}
				}()
				s.endpoint("a", mesh.AppHTTP2, socket.Addr().(*net.TCPAddr).AddrPort())
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", tc.body)
				if err != nil {
					t.Fatal(err)
				}
				response, err := s.client().Do(r)
				if err != nil {
					t.Fatalf("%v\n%s", err, s.logs)
				}
				defer response.Body.Close()
				got, err := io.ReadAll(response.Body)
				status, want := http.StatusOK, whole
				switch {
				case name == "it ends altogether" && tc.retry != nil && tc.retry.Attempts == 0: // no other endpoint is asked
					status, want = http.StatusServiceUnavailable, "503 connect_failed\n"
				case tc.body == nil:
					want = ""
				}
				if response.StatusCode != status || string(got) != want || err != nil {
					t.Errorf("answered %s, %q, %v\n%s", response.Status, got, err, s.logs)
				}
				s.drain()
				if n := s.server.unprocessed.inUse() + s.server.replayed.inUse(); n != 0 {
					t.Errorf("%d bytes of memory were not given back", n)
				}
			})
		}
	}
}

// A client's pause in the middle of its upload makes no difference to that, and what it sends after the pause comes whole, too. The pause is longer than what is waited for an answer that may be on its way.
func TestRequestsThatABackendHasNotSeenWithAPause(t *testing.T) {
	for name, refuse := range map[string]func(f *http2.Framer, stream uint32){
		"it ends its connection": func(f *http2.Framer, _ uint32) { f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"it has no room now":     func(f *http2.Framer, stream uint32) { f.WriteRSTStream(stream, http2.ErrCodeRefusedStream) },
	} {
		for _, times := range []int32{1, mostAnew, mostAnew + 1} {
			for _, retry := range []*mesh.HTTPRetry{nil, {Codes: []uint16{http.StatusServiceUnavailable}, Attempts: 2}} {
				for _, major := range []int{1, 2} {
					t.Run(fmt.Sprintf("%s, %d times, with retry %v, the client speaks HTTP/%d", name, times, retry != nil, major), func(t *testing.T) {
						inMemory(t, func(t *testing.T, in network) {
							s := newSceneIn(t, in, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
								r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, retry
							}))))
							socket, err := in.listen(t.Context())
							if err != nil {
								t.Fatal(err)
							}
							defer socket.Close()
							var left atomic.Int32
							left.Store(times)
							go func() {
								for {
									nc, err := socket.Accept()
									if err != nil {
										return
									}
									go refuses(nc, func(whole bool) bool { return left.Load() > 0 && left.Add(-1) >= 0 }, refuse)
								}
							}()
							s.endpoint("a", mesh.AppHTTP2, socket.Addr().(*net.TCPAddr).AddrPort())
							client := s.client()
							if major == 2 {
								protocols := &http.Protocols{}
								protocols.SetUnencryptedHTTP2(true)
								client.Transport.(*http.Transport).Protocols = protocols
							}
							from, into := io.Pipe()
							var upload sync.WaitGroup
							defer upload.Wait()
							upload.Go(func() {
								io.WriteString(into, "he")
								time.Sleep(10 * time.Second)
								io.WriteString(into, "llo")
								into.Close()
							})
							r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", from)
							if err != nil {
								t.Fatal(err)
							}
							began := time.Now()
							response, err := client.Do(r)
							if err != nil {
								t.Fatalf("%v\n%s", err, s.logs)
							}
							defer response.Body.Close()
							text, err := io.ReadAll(response.Body)
							switch took := time.Since(began); {
							case times > mostAnew: // the client need not go on to be told
								if response.StatusCode != http.StatusBadGateway || took > 5*time.Second {
									t.Errorf("answered %s after %v\n%s", response.Status, took, s.logs)
								}
							case response.StatusCode != http.StatusOK || string(text) != "hello" || err != nil:
								t.Errorf("answered %s %q, %v, after %v\n%s", response.Status, text, err, took, s.logs)
							}
							from.Close()
							client.CloseIdleConnections()
							s.drain()
							if n := s.server.unprocessed.inUse() + s.server.replayed.inUse(); n != 0 {
								t.Errorf("%d bytes of memory were not given back", n)
							}
						})
					})
				}
			}
		}
	}
}

// refuses serves a connection in HTTP/2 whose requests are refused if they are to be, which is asked at their head and when they are whole; others are answered with their bodies.
func refuses(nc net.Conn, now func(whole bool) bool, refuse func(f *http2.Framer, stream uint32)) {
	defer nc.Close()
	if _, err := io.CopyN(io.Discard, nc, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(nc, nc)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	bodies, refused := map[uint32][]byte{}, map[uint32]bool{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		stream, whole := frame.Header().StreamID, frame.Header().Flags.Has(http2.FlagDataEndStream) // which is that of headers, too
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.WriteSettingsAck()
			}
			continue
		case *http2.DataFrame:
			bodies[stream] = append(bodies[stream], frame.Data()...)
			if !whole {
				continue
			}
		case *http2.MetaHeadersFrame:
		default:
			continue
		}
		switch {
		case refused[stream]:
			continue
		case now(whole):
			refused[stream] = true
			refuse(f, stream)
			continue
		case !whole:
			continue
		}
		var head bytes.Buffer
		hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true})
		f.WriteData(stream, true, bodies[stream])
	}
}
