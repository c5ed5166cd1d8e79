// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// pipes is a listener for a bubble.
type pipes struct {
	come   chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{come: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-p.come:
		return nc, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestWhoConnectedMayAsk: a client was accepted just before the server takes no more, and is slow to ask. It is answered, once; who never asks holds nothing up for long.
func TestWhoConnectedMayAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := meshServer(unknownUpstream)
		s.Slots = NewSlots(1, ReasonPodBusy, nil)
		taking, stop := context.WithCancel(t.Context())
		l, ended := newPipes(), make(chan struct{})
		go func() {
			defer close(ended)
			s.ServeStream(taking, context.WithoutCancel(t.Context()), l, func(net.Conn) netip.AddrPort { return netip.AddrPort{} })
		}()
		connect := func() *dns.Conn {
			ours, theirs := net.Pipe()
			l.come <- theirs
			return &dns.Conn{Conn: ours}
		}
		slow, silent := connect(), connect()
		synctest.Wait()
		stop()
		began := time.Now()
		time.Sleep(tcpIdle / 2)
		if err := slow.WriteMsg(new(dns.Msg).SetQuestion("cart.shop.svc.cluster.local.", dns.TypeA)); err != nil {
			t.Fatalf("the client may not ask: %v", err)
		}
		if reply, err := slow.ReadMsg(); err != nil || len(reply.Answer) != 1 {
			t.Errorf("answered %v, %v", reply, err)
		}
		if _, err := slow.ReadMsg(); err == nil {
			t.Errorf("the connection goes on: %v", err)
		}
		if took := time.Since(began); took > tcpIdle/2+2*lastCall {
			t.Errorf("who was answered was waited for %v more", took-tcpIdle/2)
		}
		<-ended
		if took := time.Since(began); took > tcpIdle {
			t.Errorf("took %v to end", took)
		}
		slow.Close()
		silent.Close()
	})
}
