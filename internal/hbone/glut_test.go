// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// queued is how many bytes a connection holds for the network.
func queued(c *Conn) int {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	n := c.pending()
	if c.under != nil {
		n += int(c.under.kept.Load())
	}
	return n
}

// stuckWrites is a connection whose peer reads nothing: Write waits for the deadline or the end.
type stuckWrites struct {
	net.Conn
	once sync.Once
	over chan struct{}
}

func (c *stuckWrites) Write([]byte) (int, error) { <-c.over; return 0, net.ErrClosed }
func (c *stuckWrites) CloseWrite() error         { return net.ErrClosed }
func (c *stuckWrites) Close() error {
	c.once.Do(func() { close(c.over) })
	return c.Conn.Close()
}

func (c *stuckWrites) SetWriteDeadline(t time.Time) error {
	time.AfterFunc(time.Until(t), func() { c.once.Do(func() { close(c.over) }) })
	return nil
}

func (c *stuckWrites) tryWrite([]byte) (int, error) { return 0, nil }

func stuckCopied(nc net.Conn) net.Conn { return &stuckWrites{Conn: nc, over: make(chan struct{})} }

func stuckDirect(nc net.Conn) net.Conn {
	c := &stuckWrites{Conn: nc, over: make(chan struct{})}
	return &Transport{Conn: c, try: c}
}

func (c *Conn) lastOpened() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened
}

// flood writes what next makes until the connection ends or holds more than it may.
func flood(t *testing.T, a net.Conn, s *Conn, next func() []byte) {
	t.Helper()
	most := 0
	_ = a.SetWriteDeadline(time.Now().Add(30 * time.Second))
	for s.Err() == nil && most < 5<<20 {
		if _, err := a.Write(next()); err != nil {
			break
		}
		most = max(most, queued(s))
	}
	t.Logf("at most %d bytes; connection: %v", most, s.Err())
	if most > 4<<20 {
		t.Errorf("%d bytes queued for a peer that reads nothing, and the connection runs", most)
	}
}

// TestRejectsUnread has a peer send requests, which are all rejected, and read nothing.
func TestRejectsUnread(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{"direct": stuckDirect, "copied": stuckCopied} {
		t.Run(name, func(t *testing.T) {
			a, b := tcpPair(t)
			defer a.Close()
			s := NewServer(wrap(b), Settings{Resets: Budget{Burst: 1 << 30}, FlushTimeout: 10 * time.Millisecond})
			var serving sync.WaitGroup
			defer serving.Wait()
			defer s.Close()
			serving.Go(func() {
				for {
					r, err := s.Accept(t.Context())
					if err != nil {
						return
					}
					_ = r.Reject(503, Header{{"proxy-status", "isthmus; error=destination_unavailable"}})
				}
			})
			out := bytes.NewBufferString(http2.ClientPreface)
			f := http2.NewFramer(out, nil)
			_ = f.WriteSettings()
			var block bytes.Buffer
			e := hpack.NewEncoder(&block)
			id := uint32(1)
			flood(t, a, s, func() []byte {
				if id > 1 {
					out.Reset()
				}
				for range 20 {
					block.Reset()
					_ = e.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"})
					_ = e.WriteField(hpack.HeaderField{Name: ":authority", Value: "10.0.0.1:80"})
					_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
					id += 2
				}
				for sent := max(id, 41) - 42; id > 41 && (s.lastOpened() < sent-1 || s.Streams()+s.backlog() > 0) && s.Err() == nil; {
					runtime.Gosched()
				}
				return out.Bytes()
			})
		})
	}
}

// TestWindowUpdatesUnread has a peer fill the connection's window on a stream that nobody reads, and then send single bytes on one that was reset.
func TestWindowUpdatesUnread(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{"direct": stuckDirect, "copied": stuckCopied} {
		t.Run(name, func(t *testing.T) {
			a, b := tcpPair(t)
			defer a.Close()
			s := NewServer(wrap(b), Settings{StreamWindow: 1 << 20, ConnWindow: 1 << 20, FlushTimeout: 10 * time.Millisecond})
			var serving sync.WaitGroup
			defer serving.Wait()
			defer s.Close()
			serving.Go(func() {
				for i := 0; ; i++ {
					r, err := s.Accept(t.Context())
					if err != nil {
						return
					}
					st, err := r.Accept(nil)
					if err == nil && i > 0 {
						_ = st.Reset(uint32(http2.ErrCodeCancel))
					}
				}
			})
			out := bytes.NewBufferString(http2.ClientPreface)
			f := http2.NewFramer(out, nil)
			_ = f.WriteSettings()
			var block bytes.Buffer
			e := hpack.NewEncoder(&block)
			for _, id := range []uint32{1, 3} {
				block.Reset()
				_ = e.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"})
				_ = e.WriteField(hpack.HeaderField{Name: ":authority", Value: "10.0.0.1:80"})
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
			}
			left := 1<<20 - 1
			for left > 0 {
				n := min(left, 16<<10)
				_ = f.WriteData(1, false, make([]byte, n))
				left -= n
			}
			_, err := a.Write(out.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { return s.lastOpened() == 3 && s.Streams() == 1 })
			flood(t, a, s, func() []byte {
				out.Reset()
				for range 1000 {
					_ = f.WriteData(3, false, []byte{'x'})
				}
				return out.Bytes()
			})
			if err := s.Err(); err != nil {
				t.Log(err)
			}
		})
	}
}
