// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// victim is a server as the gateway is one: TLS with a bound on handshakes, in all and per address, and a goroutine per request.
type victim struct {
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	streams  atomic.Int64 // that the enemy has, and that are answered or will never be

	mu         sync.Mutex // guards what follows
	settings   Settings   // of connections that the enemy makes from now on
	conns      map[*Conn]netip.Addr
	handshakes map[netip.Addr]int
	ends       *tally // of connections of the enemy
}

const (
	handshakesAtOnce   = 64
	handshakesPerPeer  = 32
	siegeHandshakeTime = 10 * time.Second
)

// Attackers have an address of their own, as they have in the world: a bound per address is a part of the defence.
var enemyAddress = netip.MustParseAddr("127.0.0.2")

// under is for a transport that is put beneath TLS.
func under(nc net.Conn) net.Conn { return NewTransport(nc) }

func newVictim(t testing.TB) *victim {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{
		listener: l,
		conns:    map[*Conn]netip.Addr{}, handshakes: map[netip.Addr]int{}, ends: newTally(),
	}
	v.ctx, v.cancel = context.WithCancel(t.Context())
	v.running.Go(v.accept)
	return v
}

func (v *victim) close() {
	v.cancel()
	_ = v.listener.Close()
	v.mu.Lock()
	for c := range v.conns {
		v.running.Go(func() { _ = c.Close() })
	}
	v.mu.Unlock()
	v.running.Wait()
}

func (v *victim) accept() {
	for {
		nc, err := v.listener.Accept()
		if err != nil {
			return
		}
		from := netip.MustParseAddrPort(nc.RemoteAddr().String()).Addr()
		if !v.begin(from) {
			_ = nc.Close()
			continue
		}
		v.running.Go(func() {
			defer nc.Close()
			if from == enemyAddress {
				// An attacker has time to let megabytes gather in the kernel. Here they would only make the siege longer.
				_ = nc.(*net.TCPConn).SetWriteBuffer(8 << 10)
			}
			secure := tls.Server(under(nc), hostile.TLS())
			ctx, cancel := context.WithTimeout(v.ctx, siegeHandshakeTime)
			err := secure.HandshakeContext(ctx)
			cancel()
			v.done(from)
			if err == nil {
				v.serve(secure, from)
			}
		})
	}
}

// begin takes a place for a handshake.
func (v *victim) begin(from netip.Addr) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := 0
	for _, n := range v.handshakes {
		all += n
	}
	if all == handshakesAtOnce || v.handshakes[from] == handshakesPerPeer {
		return false
	}
	v.handshakes[from]++
	return true
}

func (v *victim) done(from netip.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.handshakes[from]--
}

// serve carries one connection until it ends, and notes how it did.
func (v *victim) serve(nc net.Conn, from netip.Addr) {
	var last lastWord
	var s Settings
	if from == enemyAddress {
		v.mu.Lock()
		s = v.settings
		v.mu.Unlock()
	}
	s.Observe = last.observe
	c := NewServer(nc, s)
	v.mu.Lock()
	v.conns[c] = from
	v.mu.Unlock()
	for {
		r, err := c.Accept(v.ctx)
		if err != nil {
			break
		}
		v.running.Go(func() { v.handle(r, from) })
	}
	if v.ctx.Err() != nil {
		_ = c.Close()
	}
	<-c.Done()
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, c)
	if from == enemyAddress {
		v.ends.note(c.Err(), last.event())
	}
}

func (v *victim) handle(r *Request, from netip.Addr) {
	if from == enemyAddress {
		v.streams.Add(1)
		defer v.streams.Add(-1)
	}
	switch r.Authority {
	case hostile.Refused:
		_ = r.Reject(503, nil)
	case hostile.Mute:
		<-r.Context().Done()
		_ = r.Reject(503, nil)
	default:
		st, err := r.Accept(nil)
		if err != nil {
			return
		}
		defer st.Close()
		buf := make([]byte, 1<<10)
		for {
			n := len(buf)
			if r.Authority != hostile.Talker {
				if n, err = st.Read(buf); err != nil {
					return
				}
			}
			if _, err := st.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// besiegedServer is a victim that the enemy attacks.
type besiegedServer struct {
	t     *testing.T
	v     *victim
	enemy *hostile.Enemy
}

func (b *besiegedServer) mount(o hostile.Order, s Settings) {
	b.t.Helper()
	b.v.mu.Lock()
	b.v.settings, b.v.ends = s, newTally()
	b.v.mu.Unlock()
	o.Address, o.From = b.v.listener.Addr().String(), enemyAddress.String()
	report(b.t)(b.enemy.Begin(o))
}

func (b *besiegedServer) dismount() hostile.Report {
	b.t.Helper()
	return report(b.t)(b.enemy.End())
}

func (b *besiegedServer) streams() (streams, connections int) {
	b.v.mu.Lock()
	defer b.v.mu.Unlock()
	for _, from := range b.v.conns {
		if from == enemyAddress {
			connections++
		}
	}
	return int(b.v.streams.Load()), connections
}

func (b *besiegedServer) outcome() *tally {
	b.v.mu.Lock()
	defer b.v.mu.Unlock()
	return b.v.ends
}

func (b *besiegedServer) close() {} // the victim serves a good client as well, and is closed with it
