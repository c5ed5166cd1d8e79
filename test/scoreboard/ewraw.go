// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawTunnels is the client's end of an HTTP/2 connection that says whatever it is told to, as attackers do: nothing is checked before it is sent.
type rawTunnels struct {
	nc net.Conn

	mu      sync.Mutex // of writes, and all below
	framer  *http2.Framer
	block   bytes.Buffer
	hpack   *hpack.Encoder
	last    uint32
	streams map[uint32]*rawStream
	err     error
}

// rawStream is one stream of it. As a net.Conn it has no deadlines: those of what carries it count.
type rawStream struct {
	net.Conn // what carries it, for addresses
	of       *rawTunnels
	id       uint32
	heard    *sync.Cond // with of.mu
	status   string
	in       bytes.Buffer
	ended    bool
}

func newRawTunnels(nc net.Conn) (*rawTunnels, error) {
	t := &rawTunnels{nc: nc, framer: http2.NewFramer(nc, nc), streams: map[uint32]*rawStream{}}
	t.hpack = hpack.NewEncoder(&t.block)
	t.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := t.framer.WriteSettings(); err != nil {
		return nil, err
	}
	go t.listen() // ends with the connection
	return t, nil
}

func (t *rawTunnels) listen() {
	for {
		f, err := t.framer.ReadFrame()
		if err != nil {
			if stream, ok := errors.AsType[http2.StreamError](err); ok {
				t.tell(stream.StreamID, func(s *rawStream) { s.ended = true })
				continue
			}
			t.fail(err)
			return
		}
		t.hear(f)
	}
}

// hear acts on a frame. What cannot be answered need not be.
func (t *rawTunnels) hear(f http2.Frame) {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		t.tell(f.StreamID, func(s *rawStream) {
			s.status = f.PseudoValue("status")
			s.ended = s.ended || f.StreamEnded()
		})
	case *http2.DataFrame:
		t.tell(f.StreamID, func(s *rawStream) {
			s.in.Write(f.Data())
			s.ended = s.ended || f.StreamEnded()
		})
	case *http2.RSTStreamFrame:
		t.tell(f.StreamID, func(s *rawStream) { s.ended = true })
	case *http2.SettingsFrame:
		if !f.IsAck() {
			t.mu.Lock()
			_ = t.framer.WriteSettingsAck()
			t.mu.Unlock()
		}
	}
}

func (t *rawTunnels) tell(id uint32, what func(*rawStream)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.streams[id]; s != nil {
		what(s)
		s.heard.Broadcast()
	}
}

func (t *rawTunnels) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	for _, s := range t.streams {
		s.ended = true
		s.heard.Broadcast()
	}
}

// open sends a header list, and gives the stream if the answer is 200.
func (t *rawTunnels) open(fields []hpack.HeaderField) (*rawStream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil, t.err
	}
	t.last = max(t.last+2, 1) | 1
	s := &rawStream{Conn: t.nc, of: t, id: t.last, heard: sync.NewCond(&t.mu)}
	t.streams[s.id] = s
	t.block.Reset()
	for _, f := range fields {
		_ = t.hpack.WriteField(f) // into memory
	}
	if err := t.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: t.block.Bytes(), EndHeaders: true}); err != nil {
		return nil, err
	}
	for s.status == "" && !s.ended {
		s.heard.Wait()
	}
	if s.status != "200" {
		return nil, fmt.Errorf("status %q: %w", s.status, errors.Join(t.err, errRefusedRaw))
	}
	return s, nil
}

var errRefusedRaw = errors.New("refused")

func (s *rawStream) Read(b []byte) (int, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	for s.in.Len() == 0 && !s.ended {
		s.heard.Wait()
	}
	if s.in.Len() == 0 {
		return 0, io.EOF
	}
	return s.in.Read(b)
}

// Write sends b as one frame; it must be small.
func (s *rawStream) Write(b []byte) (int, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.err != nil {
		return 0, s.of.err
	}
	return len(b), s.of.framer.WriteData(s.id, false, b)
}

func (s *rawStream) Close() error                     { return nil }
func (s *rawStream) SetDeadline(time.Time) error      { return nil }
func (s *rawStream) SetReadDeadline(time.Time) error  { return nil }
func (s *rawStream) SetWriteDeadline(time.Time) error { return nil }

// recorded is a connection that remembers what was written.
type recordedConn struct {
	net.Conn
	written bytes.Buffer
}

func (r *recordedConn) Write(b []byte) (int, error) {
	r.written.Write(b)
	return r.Conn.Write(b)
}
