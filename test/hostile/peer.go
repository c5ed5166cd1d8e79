// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// writeBuffer is how many bytes of frames gather before they are written, so that a flood costs the attacker few system calls.
const writeBuffer = 8 << 10

// Peer is the attacker's end of one connection. It writes whatever it is told to; errors are not returned, but end More.
type Peer struct {
	// Conn is the connection as far as the attack's layer goes; Raw is the TCP below.
	Conn, Raw net.Conn

	role    Role
	ctx     context.Context
	out     *bufio.Writer
	failed  bool // a write did; belongs to the attack
	last    uint32
	encoded bytes.Buffer
	hpack   *hpack.Encoder
	keys    *keyLog

	heard chan uint32   // streams on which HEADERS came
	pings chan [8]byte  // PINGs that came
	ended chan struct{} // closed when nothing more is read
	over  atomic.Bool   // the other side ended the connection, and we care
}

func newPeer(ctx context.Context, role Role, t Target, raw net.Conn) *Peer {
	p := &Peer{
		Raw: raw, Conn: raw, role: role, ctx: ctx,
		heard: make(chan uint32, 256), pings: make(chan [8]byte, 4), ended: make(chan struct{}),
	}
	p.hpack = hpack.NewEncoder(&p.encoded)
	p.out = bufio.NewWriterSize(pacedWriter{p, t.Pace}, writeBuffer)
	return p
}

// pacedWriter writes to the connection as fast as the attacker is allowed to.
type pacedWriter struct {
	p    *Peer
	pace func()
}

func (w pacedWriter) Write(b []byte) (int, error) {
	if w.pace != nil {
		w.pace()
	}
	if err := w.p.ctx.Err(); err != nil {
		return 0, err // the siege is over, and what is said now is no part of it
	}
	return w.p.Conn.Write(b)
}

// listen reads what the other side says.
func (p *Peer) listen(a Attack) {
	defer close(p.ended)
	in := http2.NewFramer(nil, p.Conn)
	in.SetReuseFrames()
	in.SetMaxReadFrameSize(1<<24 - 1)
	for {
		f, err := in.ReadFrame()
		if err != nil {
			break
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			p.over.Store(f.ErrCode != http2.ErrCodeNo && !a.Stubborn)
		case *http2.HeadersFrame:
			offer(p.heard, f.StreamID)
		case *http2.PingFrame:
			if !f.IsAck() {
				offer(p.pings, f.Data)
			}
		}
		if p.over.Load() {
			break
		}
	}
	if !a.Stubborn {
		p.over.Store(true)
		_ = p.Raw.Close() // gets a write out that hangs
	}
}

// offer keeps v for whoever will ask, or forgets it if too much is kept already.
func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}

// More says whether there is somebody left to attack.
func (p *Peer) More() bool { return !p.failed && !p.over.Load() && p.ctx.Err() == nil }

// Flush sends what has gathered.
func (p *Peer) Flush() { p.failed = p.out.Flush() != nil || p.failed }

// Wait lets time pass, and sends what has gathered before. It says whether there is somebody left.
func (p *Peer) Wait(d time.Duration) bool {
	p.Flush()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	case <-p.ended:
	}
	return p.More()
}

// Write sends bytes that may be no frames.
func (p *Peer) Write(b []byte) {
	if _, err := p.out.Write(b); err != nil {
		p.failed = true
	}
}

// Head sends a frame header, true or not.
func (p *Peer) Head(kind http2.FrameType, flags http2.Flags, id uint32, length int) {
	var head [9]byte
	binary.BigEndian.PutUint32(head[:4], uint32(length)<<8|uint32(kind))
	head[4] = byte(flags)
	binary.BigEndian.PutUint32(head[5:], id)
	p.Write(head[:])
}

// Frame sends a frame.
func (p *Peer) Frame(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	p.Head(kind, flags, id, len(payload))
	p.Write(payload)
}

// Numbers sends a frame whose payload are numbers of 32 bits.
func (p *Peer) Numbers(kind http2.FrameType, id uint32, numbers ...uint32) {
	p.Head(kind, 0, id, 4*len(numbers))
	var b [4]byte
	for _, n := range numbers {
		binary.BigEndian.PutUint32(b[:], n)
		p.Write(b[:])
	}
}

// Reset sends RST_STREAM.
func (p *Peer) Reset(id uint32, code http2.ErrCode) {
	p.Numbers(http2.FrameRSTStream, id, uint32(code))
}

// Window sends WINDOW_UPDATE.
func (p *Peer) Window(id, increment uint32) { p.Numbers(http2.FrameWindowUpdate, id, increment) }

// Settings sends SETTINGS.
func (p *Peer) Settings(settings ...http2.Setting) {
	p.Head(http2.FrameSettings, 0, 0, 6*len(settings))
	var b [6]byte
	for _, s := range settings {
		binary.BigEndian.PutUint16(b[:], uint16(s.ID))
		binary.BigEndian.PutUint32(b[2:], s.Val)
		p.Write(b[:])
	}
}

// Ping sends PING.
func (p *Peer) Ping(flags http2.Flags, payload string) {
	var b [8]byte
	copy(b[:], payload)
	p.Frame(http2.FramePing, flags, 0, b[:])
}

// Data sends DATA.
func (p *Peer) Data(id uint32, payload []byte) { p.Frame(http2.FrameData, 0, id, payload) }

// End sends END_STREAM on empty DATA.
func (p *Peer) End(id uint32) { p.Frame(http2.FrameData, http2.FlagDataEndStream, id, nil) }

// Block encodes name, value, name, value… The result is good until the next call.
func (p *Peer) Block(fields ...string) []byte {
	p.encoded.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := p.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			panic(err) // a buffer takes everything
		}
	}
	return p.encoded.Bytes()
}

// Headers sends a header block in one frame.
func (p *Peer) Headers(id uint32, flags http2.Flags, block []byte) {
	p.Frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|flags, id, block)
}

// Next is the id of a stream that a client has not used.
func (p *Peer) Next() uint32 {
	if p.last == 0 {
		p.last = 1
	} else {
		p.last += 2
	}
	return p.last
}

// Open sends a CONNECT and gives its stream.
func (p *Peer) Open(target string) uint32 {
	id := p.Next()
	p.Headers(id, 0, p.Block(":method", "CONNECT", ":authority", target))
	return id
}

// Asked waits for a stream on which HEADERS came: an answer for a client, a request for a server. 0 means that there comes no other.
func (p *Peer) Asked() uint32 {
	p.Flush()
	select {
	case id := <-p.heard:
		return id
	case <-p.ctx.Done():
	case <-p.ended:
	}
	return 0
}

// Live gives another stream that is open on both sides: one that a client opens and sees answered, or one that a server is asked for and answers.
// 0 means that there is none.
func (p *Peer) Live() uint32 {
	if p.role == Client {
		p.Open(Echo)
		return p.Asked()
	}
	id := p.Asked()
	if id != 0 {
		p.Headers(id, 0, p.Block(":status", "200"))
		p.Flush()
	}
	return id
}

// Fresh gives another stream whose state the attacker may spoil: one that a client has just opened and that may not be answered yet, or one that a
// server is asked for. 0 means that there is none.
func (p *Peer) Fresh() uint32 {
	if p.role == Client {
		return p.Open(Echo)
	}
	return p.Asked()
}

// live attacks on a live stream, if there is one.
func live(do func(p *Peer, id uint32)) func(*Peer) {
	return func(p *Peer) {
		if id := p.Live(); id != 0 {
			do(p, id)
		}
	}
}

// each attacks on one fresh stream after the other.
func each(do func(p *Peer, id uint32)) func(*Peer) {
	return func(p *Peer) {
		for p.More() {
			if id := p.Fresh(); id != 0 {
				do(p, id)
			}
		}
	}
}

// eachLive attacks on one live stream after the other.
func eachLive(do func(p *Peer, id uint32)) func(*Peer) {
	return func(p *Peer) {
		for p.More() {
			if id := p.Live(); id != 0 {
				do(p, id)
			}
		}
	}
}
