// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawPeer speaks frames to a Conn, legal ones or not. What it receives is collected.
type rawPeer struct {
	*http2.Framer
	t    testing.TB
	nc   net.Conn
	conn *Conn // the one under test

	encoded bytes.Buffer
	hpack   *hpack.Encoder

	mu     sync.Mutex
	frames []rawFrame
	events []Event
	ended  chan struct{} // closed when the peer's socket was
}

// rawFrame is what a test wants to know of a received frame.
type rawFrame struct {
	kind   http2.FrameType
	stream uint32
	code   http2.ErrCode // RST_STREAM and GOAWAY
	end    bool
	ack    bool
	length int
	status string // HEADERS
}

// attack makes a server (or a client) under test and a raw peer that has greeted it.
func attack(t testing.TB, client bool, s Settings) *rawPeer {
	t.Helper()
	a, b := tcpPair(t)
	p := &rawPeer{t: t, nc: a, ended: make(chan struct{})}
	p.hpack = hpack.NewEncoder(&p.encoded)
	s.Observe = func(e Event) {
		p.mu.Lock()
		p.events = append(p.events, e)
		p.mu.Unlock()
	}
	if s.FlushTimeout == 0 {
		s.FlushTimeout = 200 * time.Millisecond
	}
	if client {
		c, err := NewClient(b, s)
		if err != nil {
			t.Fatal(err)
		}
		p.conn = c
		if _, err := io.ReadFull(a, make([]byte, len(http2.ClientPreface))); err != nil {
			t.Fatal(err)
		}
	} else {
		p.conn = NewServer(b, s)
		if _, err := io.WriteString(a, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
	}
	p.Framer = http2.NewFramer(a, a)
	p.Framer.AllowIllegalWrites = true
	t.Cleanup(func() {
		_ = a.Close()
		_ = p.conn.Close()
		<-p.ended
	})
	go p.collect()
	p.must(p.WriteSettings())
	p.must(p.WriteSettingsAck())
	return p
}

func (p *rawPeer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *rawPeer) collect() {
	defer close(p.ended)
	reader := http2.NewFramer(io.Discard, p.nc)
	decoder := hpack.NewDecoder(4096, nil)
	for {
		f, err := reader.ReadFrame()
		if err != nil {
			return
		}
		h := f.Header()
		r := rawFrame{kind: h.Type, stream: h.StreamID, length: int(h.Length)}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			r.code = f.ErrCode
		case *http2.GoAwayFrame:
			r.code = f.ErrCode
			r.stream = f.LastStreamID
		case *http2.DataFrame:
			r.end = f.StreamEnded()
		case *http2.PingFrame:
			r.ack = f.IsAck()
		case *http2.SettingsFrame:
			r.ack = f.IsAck()
		case *http2.HeadersFrame:
			r.end = f.StreamEnded()
			fields, err := decoder.DecodeFull(f.HeaderBlockFragment())
			if err == nil && len(fields) > 0 {
				r.status = fields[0].Value
			}
		}
		p.mu.Lock()
		p.frames = append(p.frames, r)
		p.mu.Unlock()
	}
}

// saw waits for a frame that fits.
func (p *rawPeer) saw(what string, fits func(rawFrame) bool) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		frames := slices.Clone(p.frames)
		p.mu.Unlock()
		if slices.ContainsFunc(frames, fits) {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("no %s among %+v; connection: %v", what, frames, p.conn.Err())
		}
	}
}

func (p *rawPeer) sawReset(id uint32, code http2.ErrCode) {
	p.t.Helper()
	p.saw("RST_STREAM "+code.String(), func(f rawFrame) bool {
		return f.kind == http2.FrameRSTStream && f.stream == id && f.code == code
	})
}

func (p *rawPeer) sawGoAway(code http2.ErrCode) {
	p.t.Helper()
	p.saw("GOAWAY "+code.String(), func(f rawFrame) bool { return f.kind == http2.FrameGoAway && f.code == code })
	<-p.conn.Done()
	var ce *ConnError
	if err := p.conn.Err(); !errors.As(err, &ce) || ce.Code != uint32(code) || ce.Remote {
		p.t.Errorf("error of the connection: %v", err)
	}
}

func (p *rawPeer) sawEvent(e Event) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.events, e) {
		p.t.Errorf("no event %s among %v", e, p.events)
	}
}

// block encodes name, value, name, value…
func (p *rawPeer) block(fields ...string) []byte {
	p.encoded.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.must(p.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return p.encoded.Bytes()
}

// headers writes one HEADERS frame.
func (p *rawPeer) headers(id uint32, end bool, fields ...string) {
	p.t.Helper()
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: end}))
}

// connect opens stream id and has it accepted.
func (p *rawPeer) connect(id uint32) *Stream {
	p.t.Helper()
	p.headers(id, false, ":method", "CONNECT", ":authority", "10.0.0.1:80")
	r, err := p.conn.Accept(p.t.Context())
	p.must(err)
	s, err := r.Accept(nil)
	p.must(err)
	return s
}
