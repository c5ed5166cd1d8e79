// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Types and flags of HTTP/2 frames (RFC 9113, 6).
const (
	frameHeaders, frameReset, frameSettings, framePing, frameContinuation = 1, 3, 4, 6, 9
	flagEndStream, flagEndHeaders                                         = 1, 4
)

// floodBytes is how much is sent of what only costs answers.
const floodBytes = 1 << 20

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	out = append(out, flags)
	out = binary.BigEndian.AppendUint32(out, stream)
	return append(out, payload...)
}

// getRoot is the header block of "GET http://shop.example.com/": three fields of HPACK's static table, and a literal.
var getRoot = append([]byte{0x82, 0x84, 0x86, 0x41, 16}, "shop.example.com"...)

// flood opens a connection of HTTP/2, whose answers nobody reads unless drained, and gives it to f until that ends or a write fails. It says how much
// was taken, and whether the gateway ended the connection.
func (s *scene) flood(drained bool, f func(write func([]byte) bool)) (taken int, ended bool) {
	s.t.Helper()
	nc, err := new(net.Dialer).DialContext(s.t.Context(), "tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	closed := make(chan struct{})
	if drained {
		go func() {
			defer close(closed)
			_, _ = io.Copy(io.Discard, nc) // until it ends
		}()
	}
	write := func(p []byte) bool {
		n, err := nc.Write(p)
		taken += n
		ended = ended || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
		return err == nil
	}
	write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...))
	f(write)
	if drained && !ended {
		select {
		case <-closed:
			ended = true
		case <-time.After(time.Second): // it goes on
		}
	}
	return taken, ended
}

// What the library promises of clients that send frames for their own sake, and we rely on: headers without end and requests that are taken back at once end
// the connection, what is asked for at once stays bounded, and others are served meanwhile.
func TestFloods(t *testing.T) {
	const streams = 20
	var running, most atomic.Int64
	s := newScene(t, Limits{Streams: streams}, listener("l", "", route("r", nil,
		mesh.HTTPRule{Matches: []mesh.HTTPMatch{prefix("/")}, Backends: []mesh.HTTPBackend{to("slow")}},
		mesh.HTTPRule{Matches: []mesh.HTTPMatch{prefix("/good")}, Backends: []mesh.HTTPBackend{to("good")}},
	)))
	s.backend("slow", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) {
		n := running.Add(1)
		defer running.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		<-r.Context().Done()
	})
	s.backend("good", mesh.AppUnknown, says("good"))
	client := s.client()
	for _, tc := range []struct {
		name    string
		drained bool
		ends    bool // the connection must
		limit   int  // bytes that may be taken
		f       func(write func([]byte) bool)
	}{
		{"headers without end", true, true, 8 << 20, func(write func([]byte) bool) {
			more := frame(frameContinuation, 0, 1, bytes.Repeat([]byte{0x82}, 16<<10))
			for ok := write(frame(frameHeaders, 0, 1, getRoot)); ok; ok = write(more) {
			}
		}},
		// It ends when more wait than the connection may have at once; a machine that keeps up with all of them has no reason to.
		{"requests that are taken back at once", true, false, 8 << 20, func(write func([]byte) bool) {
			for stream := uint32(1); ; stream += 2 {
				cancel := frame(frameReset, 0, stream, []byte{0, 0, 0, 8})
				if stream > 200_001 || !write(append(frame(frameHeaders, flagEndStream|flagEndHeaders, stream, getRoot), cancel...)) {
					return
				}
			}
		}},
		{"settings whose answers nobody reads", false, false, floodBytes, func(write func([]byte) bool) {
			many := bytes.Repeat(frame(frameSettings, 0, 0, nil), 1000)
			for range floodBytes / len(many) {
				write(many)
			}
		}},
		{"pings whose answers nobody reads", false, false, floodBytes, func(write func([]byte) bool) {
			many := bytes.Repeat(frame(framePing, 0, 0, make([]byte, 8)), 1000)
			for range floodBytes / len(many) {
				write(many)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			done := make(chan struct{})
			good := make(chan int)
			go func() {
				answers := 0
				for {
					select {
					case <-done:
						good <- answers
						return
					default:
					}
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.example.com/good", http.NoBody)
					if err != nil {
						t.Error(err)
					}
					response, err := client.Do(r)
					if err != nil {
						t.Errorf("somebody else was refused: %v", err)
						<-done
						good <- 0
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
					answers++
				}
			}()
			taken, ended := s.flood(tc.drained, tc.f)
			close(done)
			t.Logf("%d bytes were taken; others were answered %d times", taken, <-good)
			// Who reads no answers has so few in memory that the sockets' buffers may hold all of them; the others must not go on.
			if tc.ends && !ended || taken > tc.limit {
				t.Errorf("%d bytes were taken, connection ended: %v", taken, ended)
			}
		})
	}
	if n := most.Load(); n > streams {
		t.Errorf("%d requests of one connection ran at once, more than %d", n, streams)
	}
	s.until("nothing runs", func() bool { return running.Load() == 0 })
}

// Headers that do not end, in pieces that hold nothing: the library bounds neither their number nor the time that they take, but it asks a client that has not come to the end of
// anything whether it is there, and who is in the middle of headers cannot answer. So their connection ends, also while a request runs on it, nothing is kept of them, and others are
// served meanwhile.
func TestEmptyContinuations(t *testing.T) {
	s := newScene(t, Limits{PingAfter: 300 * time.Millisecond, PingWait: 300 * time.Millisecond}, byPath("slow", "good"))
	var began, gone atomic.Int64
	s.backend("slow", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) {
		began.Add(1)
		<-r.Context().Done()
		gone.Add(1)
	})
	s.backend("good", mesh.AppUnknown, says("good"))
	client := s.client()
	getSlow := append([]byte{0x82, 0x86, 0x04, 5, '/', 's', 'l', 'o', 'w', 0x41, 16}, "shop.example.com"...)
	nothing := bytes.Repeat(frame(frameContinuation, 0, 3, nil), 1000)
	for _, while := range []string{"alone", "while a request runs"} {
		runs, start := began.Load(), time.Now()
		taken, ended := s.flood(true, func(write func([]byte) bool) {
			if while != "alone" {
				write(frame(frameHeaders, flagEndStream|flagEndHeaders, 1, getSlow))
				s.until("it runs", func() bool { return began.Load() > runs })
			}
			for ok := write(frame(frameHeaders, 0, 3, getRoot)); ok; ok = write(nothing) {
				if response, body := s.ask(client, http.MethodGet, "http://x/good", ""); response.StatusCode != http.StatusOK {
					t.Errorf("%s: somebody else is answered %d %q", while, response.StatusCode, body)
				}
			}
		})
		t.Logf("%s: %d bytes were taken in %v", while, taken, time.Since(start))
		if !ended {
			t.Errorf("%s: the connection goes on", while)
		}
		s.until("its requests have ended", func() bool { return gone.Load() == began.Load() })
	}
}

// A request of HTTP/2 has its host in :authority, and may repeat it. One that names two is answered by nobody: it would be routed by the one, and served by the other.
func TestTwoHosts(t *testing.T) {
	s := newScene(t, Limits{}, byPath("good"))
	var mu sync.Mutex
	var seen []string
	s.backend("good", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Host+r.URL.Path)
	})
	get := func(path, host string) []byte {
		block := append([]byte{0x82, 0x86, 0x04, byte(len(path))}, path...)
		block = append(append(block, 0x41, 16), "shop.example.com"...)
		block = append(append(block, 0x00, 4), "host"...)
		return append(append(block, byte(len(host))), host...)
	}
	s.flood(true, func(write func([]byte) bool) {
		write(frame(frameHeaders, flagEndStream|flagEndHeaders, 1, get("/good/1", "shop.EXAMPLE.com")))
		write(frame(frameHeaders, flagEndStream|flagEndHeaders, 3, get("/good/2", "evil.example.com")))
		s.until("both are answered", func() bool {
			text := s.logs.String()
			return strings.Contains(text, "/good/1") && strings.Contains(text, "/good/2")
		})
	})
	mu.Lock()
	defer mu.Unlock()
	if got := fmt.Sprint(seen); got != "[shop.example.com/good/1]" {
		t.Errorf("the backend was asked %s", got)
	}
	if !strings.Contains(s.logs.String(), `"bad_host"`) {
		t.Error("the log does not say why")
	}
}
