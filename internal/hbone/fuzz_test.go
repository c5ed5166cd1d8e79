// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"reflect"
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

// FuzzFrames feeds the frame reader of a server with the same bytes at once, one by one, and in pieces as the input says. What it makes of them must not depend
// on how they come: the same requests, the same bytes on their streams, the same answers, the same end.
func FuzzFrames(f *testing.F) {
	f.Add(conversation(true), []byte{1, 9, 200, 3})
	open := conversation(true)
	f.Add(open[:bytes.Index(open, []byte{0, 0, 4, byte(http2.FrameRSTStream)})], []byte{100})
	f.Fuzz(func(t *testing.T, input, sizes []byte) {
		input = append([]byte(http2.ClientPreface), input...)
		whole := readPieces(input, nil)
		for _, sizes := range [][]byte{{0}, sizes} {
			if pieces := readPieces(input, sizes); !reflect.DeepEqual(pieces, whole) {
				t.Fatalf("in pieces of %v:\n%+v\nwhole:\n%+v", sizes, pieces, whole)
			}
		}
	})
}

// readings is what a connection made of the bytes that it read.
type readings struct {
	Requests []string
	Data     map[uint32]string
	Ended    map[uint32]bool
	Answers  string
	End      string
}

// readPieces has the reading side of a server read input in pieces of the given sizes, over and over, or whole. Nothing else runs: what would be sent stays in the queue.
func readPieces(input, sizes []byte) readings {
	c := newConn(&pieces{in: input, sizes: sizes}, Settings{StreamWindow: 4096, ConnWindow: 65535, MaxStreams: 10}, false)
	c.sending = true // so that nobody else does
	r := readings{Data: make(map[uint32]string), Ended: make(map[uint32]bool)}
	var err error
	for err == nil {
		c.in.sated = false
		err = c.readFrames()
	}
	r.End = err.Error()
	for _, request := range c.requests {
		r.Requests = append(r.Requests, fmt.Sprint(request.stream.id, request.Authority, request.Header))
		s := request.stream
		r.Ended[s.id] = s.rerr != nil
		data := make([]byte, s.buf.size)
		if s.mu.Lock(); len(data) > 0 {
			_, _ = s.takeBuffered(data) // unlocks
		}
		r.Data[s.id] = string(data)
	}
	if c.out != nil {
		r.Answers = string(c.out.b)
	}
	return r
}

// pieces is a transport that gives its bytes in pieces.
type pieces struct {
	script
	in    []byte
	sizes []byte
	next  int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		return 0, io.EOF
	}
	n := len(p.in)
	if len(p.sizes) > 0 {
		n = int(p.sizes[p.next%len(p.sizes)]) + 1
		p.next++
	}
	n = copy(b, p.in[:min(n, len(p.in))])
	p.in = p.in[n:]
	return n, nil
}
