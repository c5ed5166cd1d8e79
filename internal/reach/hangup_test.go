// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// addressed is a connection of which only the far end matters.
type addressed struct {
	relay.Conn
	far net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.far }

// Of what has become of connections that were established, only that an endpoint reset one to which it owed its first byte counts against it.
func TestWhatAnEndSaysOfAnEndpoint(t *testing.T) {
	reset := &hbone.StreamError{Code: connectError, Remote: true}
	dst := netip.MustParseAddrPort("10.96.0.1:80")
	cart := shopService("cart", "10.96.0.1")
	endpoint, waypoint := podWorkload("cart-a", "10.0.0.1", serves("cart", 80, 8080)), podWorkload("waypoint", "10.0.0.9", serves("waypoint", 15008, 15008))
	far, app := net.Addr(&net.TCPAddr{Port: 1}), net.Addr(&net.TCPAddr{Port: 2})
	tunnelled := func(change func(*Plan)) Plan {
		p := Plan{Via: HBONE, Picked: endpoint.UID, Service: cart, Endpoint: endpoint}
		change(&p)
		return p
	}
	whole := func(*Plan) {}
	plain := func(p *Plan) { p.Via = Direct }
	for _, tc := range []struct {
		name           string
		plan           Plan
		sent, received int64
		err            error
		counts         bool
	}{
		{"reset before its first byte", tunnelled(whole), 10, 0, reset, true},
		{"reset after it", tunnelled(whole), 10, 1, reset, false},
		{"reset, and was sent nothing", tunnelled(whole), 0, 0, reset, false},
		{"ended in order", tunnelled(whole), 10, 0, nil, false},
		{"reset by us", tunnelled(whole), 10, 0, &hbone.StreamError{Code: connectError}, false},
		{"reset for another reason", tunnelled(whole), 10, 0, &hbone.StreamError{Code: 7, Remote: true}, false},
		{"its tunnel broke", tunnelled(whole), 10, 0, &hbone.ConnError{Remote: true, Err: syscall.ECONNRESET}, false},
		{"the application left", tunnelled(whole), 10, 0, &net.OpError{Op: "read", Addr: app, Err: syscall.ECONNRESET}, false},
		{"behind a waypoint", tunnelled(func(p *Plan) { p.Endpoint, p.Picked = waypoint, waypoint.UID }), 10, 0, reset, false},
		{"without a choice", tunnelled(func(p *Plan) { p.Picked = "" }), 10, 0, reset, false},
		{"plain, reset by the endpoint", tunnelled(plain), 10, 0, &net.OpError{Op: "read", Addr: far, Err: syscall.ECONNRESET}, true},
		{"plain, reset by the application", tunnelled(plain), 10, 0, &net.OpError{Op: "read", Addr: app, Err: syscall.ECONNRESET}, false},
		{"plain, in vain for long", tunnelled(plain), 10, 0, &net.OpError{Op: "read", Addr: far, Err: syscall.ETIMEDOUT}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := NewHealth(time.Now, noChance)
			c := &Conn{Conn: addressed{far: far}}
			if tc.plan.Via != Direct {
				c.Tunnel = &hbone.Conn{}
			}
			var s relay.Stats
			s.Sent.Store(tc.sent)
			s.Received.Store(tc.received)
			err := tc.err
			if err != nil {
				err = fmt.Errorf("relay: %w", err)
			}
			h.Ended(c, tc.plan, dst, &s, err)
			if out := len(h.out(dst, false).Endpoints); (out == 1) != tc.counts {
				t.Errorf("%d are passed over", out)
			}
			if out := len(h.out(netip.MustParseAddrPort("10.96.0.1:81"), false).Endpoints); out != 0 {
				t.Errorf("%d are passed over for another port", out)
			}
			if h.New().rumoured(tc.plan) {
				t.Error("others hear of it")
			}
		})
	}

	// Behind a gateway it is the pod, and not all that the gateway stands for.
	h, told := NewHealth(time.Now, noChance), 0
	var s relay.Stats
	s.Sent.Store(1)
	h.Ended(&Conn{hungUp: func() { told++ }}, tunnelled(func(p *Plan) { p.Via = DoubleHBONE; p.Gateway = mesh.GatewayAddress{Port: 15008} }), dst, &s, reset)
	if told != 1 || !h.out(dst, false).Empty() {
		t.Errorf("the pod was blamed %d times, passed over are %v", told, h.out(dst, false))
	}
}

// That it can be connected does not rehabilitate who hangs up; an answer does.
func TestWhoHangsUpHasToAnswer(t *testing.T) {
	now, dst := time.Unix(0, 0), netip.MustParseAddrPort("10.96.0.1:80")
	h := NewHealth(func() time.Time { return now }, noChance)
	plan := Plan{Via: HBONE, Picked: "a", Service: shopService("cart", ""), Endpoint: podWorkload("cart-a", "", serves("cart", 80, 8080))}
	c := &Conn{Tunnel: &hbone.Conn{}}
	var mute, heard relay.Stats
	mute.Sent.Store(1)
	heard.Received.Store(1)
	hangUp := func() { h.Ended(c, plan, dst, &mute, &hbone.StreamError{Code: connectError, Remote: true}) }
	out := func() bool { return len(h.out(dst, false).Endpoints) == 1 }
	for _, want := range []time.Duration{firstEjection, 2 * firstEjection, 4 * firstEjection} {
		hangUp()
		hangUp() // many at once are one
		now = now.Add(want - 1)
		if !out() {
			t.Errorf("used again before %v", want)
		}
		now = now.Add(1)
		if out() {
			t.Errorf("still passed over after %v", want)
		}
		h.trying(plan, dst)
		if !out() {
			t.Error("more than one find out")
		}
		h.worked(plan, dst)
		now = now.Add(time.Second)
	}
	h.Ended(c, plan, dst, &heard, nil)
	if out() {
		t.Error("it answered, and is passed over")
	}
	hangUp()
	if now = now.Add(firstEjection); out() {
		t.Error("an answer did not forget the failures")
	}
}
