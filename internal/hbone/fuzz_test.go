// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// script is a transport that plays given bytes and takes whatever is written.
type script struct {
	mu     sync.Mutex
	in     *bytes.Reader
	closed bool
	ready  chan struct{} // nothing is played before it is closed
}

func (s *script) Read(p []byte) (int, error) {
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	return s.in.Read(p)
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	return len(p), nil
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// conversation writes what a peer in order would send, as a seed.
func conversation(client bool) []byte {
	var b, block bytes.Buffer
	f := http2.NewFramer(&b, nil)
	enc := hpack.NewEncoder(&block)
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 15})
	_ = f.WriteWindowUpdate(0, 1000)
	if client {
		_ = enc.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"})
		_ = enc.WriteField(hpack.HeaderField{Name: ":authority", Value: "10.0.0.1:80"})
	} else {
		_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	}
	_ = enc.WriteField(hpack.HeaderField{Name: "baggage", Value: "k8s.namespace.name=shop"})
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()[:3]})
	_ = f.WriteContinuation(1, true, block.Bytes()[3:])
	_ = f.WriteSettingsAck()
	_ = f.WriteDataPadded(1, false, []byte("hello"), make([]byte, 3))
	_ = f.WritePing(false, [8]byte{1})
	_ = f.WriteWindowUpdate(1, 1000)
	_ = f.WriteData(1, true, nil)
	_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = f.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	return b.Bytes()
}

// feed plays input to a connection whose user does the usual things. It must end, and end tidily.
func feed(t *testing.T, client bool, input []byte) {
	set := Settings{StreamWindow: 4096, ConnWindow: 65535, MaxStreams: 10, FlushTimeout: time.Millisecond}
	var work sync.WaitGroup
	use := func(s *Stream) {
		work.Go(func() { _, _ = io.Copy(io.Discard, s) })
		work.Go(func() {
			_, _ = s.Write(make([]byte, 5000))
			_ = s.CloseWrite()
		})
	}
	var c *Conn
	if client {
		nc := &script{in: bytes.NewReader(input), ready: make(chan struct{})}
		c, _ = NewClient(nc, set)
		for range 3 {
			work.Go(func() {
				if s, _, err := c.Open(t.Context(), "10.0.0.1:80", Header{{"baggage", "a"}}); err == nil {
					use(s)
				}
			})
		}
		for c.Streams() < 3 { // an answer that comes before its request would end the connection
			runtime.Gosched()
		}
		close(nc.ready)
	} else {
		nc := &script{in: bytes.NewReader(append([]byte(http2.ClientPreface), input...)), ready: make(chan struct{})}
		close(nc.ready)
		c = NewServer(nc, set)
		work.Go(func() {
			for {
				r, err := c.Accept(t.Context())
				if err != nil {
					return
				}
				if r.Authority == "" || len(r.Header) > 100 {
					t.Errorf("request %+v", r)
				}
				if s, err := r.Accept(nil); err == nil {
					use(s)
				}
			}
		})
	}
	select {
	case <-c.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the connection did not end with its input")
	}
	work.Wait()
	if c.Err() == nil || c.Streams() != 0 {
		t.Fatalf("error %v, %d streams", c.Err(), c.Streams())
	}
}

func FuzzServer(f *testing.F) {
	f.Add(conversation(true))
	f.Fuzz(func(t *testing.T, input []byte) { feed(t, false, input) })
}

func FuzzClient(f *testing.F) {
	f.Add(conversation(false))
	f.Fuzz(func(t *testing.T, input []byte) { feed(t, true, input) })
}

// FuzzHeaderBlock feeds the decoder: whatever passes has legal names and values and is within the limit.
func FuzzHeaderBlock(f *testing.F) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	_ = enc.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"})
	_ = enc.WriteField(hpack.HeaderField{Name: "baggage", Value: "k8s.namespace.name=shop"})
	f.Add(block.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 300
		d := newHeaderDecoder(limit)
		list, err := d.decode(b)
		if err != nil || list.malformed != "" || list.tooLarge {
			return
		}
		if err := list.fields.check(limit, 0); err != nil {
			t.Fatal(err)
		}
	})
}
