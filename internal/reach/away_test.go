// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

// addresses are those of one gateway, and what becomes of a connection to each; nil: the gateway takes it.
type addresses struct {
	gateway *farSide

	mu      sync.Mutex
	behave  map[string]func(context.Context) error
	mute    map[string]bool // takes connections, and says nothing
	dialled []string
}

// resets is a connection that the other end has reset.
type resets struct{ net.Conn }

func (resets) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
}

func (resets) Write(p []byte) (int, error) { return len(p), nil }

// errHangsUp is of an address that takes a connection, and closes it as soon as it hears anything.
var errHangsUp = errors.New("hangs up")

func (a *addresses) connect(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
	addr := to.Addr().String()
	a.mu.Lock()
	a.dialled = append(a.dialled, addr)
	behave := a.behave[addr]
	a.mu.Unlock()
	if behave != nil {
		err := behave(ctx)
		if errors.Is(err, errHangsUp) {
			near, far := net.Pipe()
			go func() { _, _ = far.Read(make([]byte, 64<<10)); far.Close() }()
			return relay.AsConn(near), nil
		}
		if errors.Is(err, syscall.ECONNRESET) {
			near, _ := net.Pipe()
			return relay.AsConn(resets{near}), nil
		}
		return nil, err
	}
	if a.mute[addr] {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }() // until near is closed
		return relay.AsConn(near), nil
	}
	return a.gateway.connect(ctx, to)
}

// were gives what was dialled since it was asked last.
func (a *addresses) were() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.dialled
	a.dialled = nil
	return out
}

// A gateway that is known by name is tried at each of its addresses, and from then on where it answers.
func TestAGatewayIsTriedAtItsOtherAddresses(t *testing.T) {
	const first, second, third = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	nobody := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	refused := func(context.Context) error { return errors.New("connection refused") }
	hangsUp := func(context.Context) error { return errHangsUp }
	reset := func(context.Context) error { return syscall.ECONNRESET } // once it is connected
	toCart := toCart
	toCart.Host, toCart.Gateway, toCart.Dial = "lb.example", mesh.GatewayAddress{Hostname: shop.Key("gateway"), Port: 15008}, netip.AddrPortFrom(netip.Addr{}, 15008)
	for _, tc := range []struct {
		name    string
		addrs   []string
		behave  map[string]func(context.Context) error
		refuses bool // the gateway answers 404
		dialled []string
		took    time.Duration
		fails   bool
	}{
		{"all answer", []string{first, second}, nil, false, []string{first}, 0, false},
		{"the first one is silent", []string{first, second}, map[string]func(context.Context) error{first: nobody}, false, []string{first, second}, addressTimeout, false},
		{"the first one refuses", []string{first, second}, map[string]func(context.Context) error{first: refused}, false, []string{first, second}, 0, false},
		{"two are silent", []string{first, second, third}, map[string]func(context.Context) error{first: nobody, second: nobody}, false, []string{first, second, third}, 2 * addressTimeout, false},
		{"the first one hangs up", []string{first, second}, map[string]func(context.Context) error{first: hangsUp}, false, []string{first, second}, 0, false},
		{"the first one resets", []string{first, second}, map[string]func(context.Context) error{first: reset}, false, []string{first, second}, 0, false},
		{"all hang up", []string{first, second}, map[string]func(context.Context) error{first: hangsUp, second: hangsUp}, false, []string{first, second}, 0, true},
		{"none answers", []string{first, second}, map[string]func(context.Context) error{first: refused, second: refused}, false, []string{first, second}, 0, true},
		{"the gateway answers, and says no", []string{first, second}, nil, true, []string{first}, 0, true},
		{"the only one is silent", []string{first}, map[string]func(context.Context) error{first: nobody}, false, []string{first}, ConnectDeadline, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onFarSide(t, func(t *testing.T, g *farSide, _ *Tunnels) {
				names := &nameServer{}
				for _, addr := range tc.addrs {
					names.addrs = append(names.addrs, netip.MustParseAddr(addr))
				}
				a := &addresses{gateway: g, behave: tc.behave}
				g.refuses.Store(tc.refuses)
				tunnels := NewTunnels(TunnelOptions{Certificates: g.source, Connect: a.connect, Settings: hbone.DefaultSettings(), Health: NewHealth(time.Now, noChance), Resolver: names})
				defer tunnels.Close()
				dial := func() (*Failure, time.Duration) {
					ctx, cancel := context.WithTimeout(t.Context(), ConnectDeadline)
					defer cancel()
					began := time.Now()
					c, failure := tunnels.Dial(ctx, shopIdentity("client"), toCart, nil, "east")
					if failure == nil {
						c.Close()
						c.Finish()
					}
					return failure, time.Since(began).Round(10 * time.Millisecond) // handshakes have short timers of their own
				}
				failure, took := dial()
				if dialled := a.were(); (failure != nil) != tc.fails || !slices.Equal(dialled, tc.dialled) || took != tc.took {
					t.Fatalf("%v after %v, dialled %v", failure, took, dialled)
				}
				if tc.fails {
					return
				}
				// Who comes after that, also by a tunnel of his own, does not wait for who is away; once that may be over one does, and for nothing if he is back.
				for range 3 {
					if failure, took := dial(); failure != nil || took != 0 || len(a.were()) > 0 {
						t.Errorf("then %v after %v", failure, took)
					}
				}
				a.mu.Lock()
				a.behave = nil
				a.mu.Unlock()
				time.Sleep(awayFor)
				failure, took = dial()
				want := []string{first}
				if len(tc.dialled) == 1 { // by the tunnel that is there
					want = nil
				}
				if dialled := a.were(); failure != nil || took != 0 || !slices.Equal(dialled, want) {
					t.Errorf("after some time %v after %v, dialled %v", failure, took, dialled)
				}
			})
		})
	}
}

// noIssuer hangs up itself.
type noIssuer struct{}

func (noIssuer) Issue(context.Context, mesh.Identity, []byte) ([]string, error) {
	return nil, fmt.Errorf("reading: %w", io.EOF)
}

// One that takes connections and answers nothing in them, as a load balancer does that has nobody for them, holds up who comes first, and nobody after that.
func TestAnAddressThatIsSilentInTheHandshakeComesLast(t *testing.T) {
	toCart := toCart
	toCart.Host, toCart.Gateway, toCart.Dial = "lb.example", mesh.GatewayAddress{Hostname: shop.Key("gateway"), Port: 15008}, netip.AddrPortFrom(netip.Addr{}, 15008)
	for _, tc := range []struct {
		waits      time.Duration
		connecting time.Duration // takes that long
		silent     bool          // it is remembered
	}{
		{addressTimeout - time.Millisecond, 0, false}, {addressTimeout, 0, true}, {2 * ConnectDeadline, 0, true},
		{time.Second + addressTimeout - time.Millisecond, time.Second, false},
	} {
		onFarSide(t, func(t *testing.T, g *farSide, _ *Tunnels) {
			a := &addresses{gateway: g, mute: map[string]bool{"192.0.2.1": true}}
			names := &nameServer{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}}
			connect := func(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
				time.Sleep(tc.connecting)
				return a.connect(ctx, to)
			}
			tunnels := NewTunnels(TunnelOptions{Certificates: g.source, Connect: connect, Settings: hbone.DefaultSettings(), Health: NewHealth(time.Now, noChance), Resolver: names})
			defer tunnels.Close()
			dial := func(limit time.Duration) *Failure { return dialPlan(t, tunnels, toCart, limit) }
			if failure := dial(tc.waits); failure == nil || !slices.Equal(a.were(), []string{"192.0.2.1"}) {
				t.Fatalf("%v", failure)
			}
			synctest.Wait()
			if got := tunnels.away.has(netip.MustParseAddrPort("192.0.2.1:15008")); got != tc.silent {
				t.Errorf("after %v, connected in %v, it is away: %v", tc.waits, tc.connecting, got)
			}
			if !tc.silent {
				return
			}
			if failure := dial(time.Second); failure != nil || !slices.Equal(a.were(), []string{"192.0.2.2"}) {
				t.Errorf("then: %v", failure)
			}
			a.mute["192.0.2.1"] = false
			time.Sleep(awayFor)
			if failure := dial(time.Second); failure != nil || !slices.Equal(a.were(), []string{"192.0.2.1"}) {
				t.Errorf("after some time: %v", failure)
			}
			if tunnels.away.has(netip.MustParseAddrPort("192.0.2.1:15008")) {
				t.Error("it is away, and has answered")
			}
		})
	}
}

// Who has no certificate of its own has learned nothing of the address, however the one who issues them failed.
func TestAnAddressIsNotBlamedForOurOwnCertificate(t *testing.T) {
	toCart := toCart
	toCart.Via, toCart.Host, toCart.Gateway, toCart.Dial = HBONE, "lb.example", mesh.GatewayAddress{Hostname: shop.Key("gateway"), Port: 15008}, netip.AddrPortFrom(netip.Addr{}, 15008)
	onFarSide(t, func(t *testing.T, g *farSide, _ *Tunnels) {
		a := &addresses{gateway: g}
		names := &nameServer{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}}
		source := mtls.NewSource(noIssuer{}, mtls.SourceOptions{})
		defer source.Close()
		tunnels := NewTunnels(TunnelOptions{Certificates: source, Connect: a.connect, Settings: hbone.DefaultSettings(), Health: NewHealth(time.Now, noChance), Resolver: names})
		defer tunnels.Close()
		ctx, cancel := context.WithTimeout(t.Context(), ConnectDeadline)
		defer cancel()
		_, failure := tunnels.Dial(ctx, shopIdentity("client"), toCart, nil, "east")
		if failure == nil || failure.Refusal.Reason != ReasonIdentity {
			t.Fatalf("%v, want %s", failure, ReasonIdentity)
		}
		if were := a.were(); !slices.Equal(were, []string{"192.0.2.1"}) || tunnels.away.has(netip.MustParseAddrPort("192.0.2.1:15008")) {
			t.Errorf("%v were dialled, and the first is away: %v", were, tunnels.away.has(netip.MustParseAddrPort("192.0.2.1:15008")))
		}
	})
}

// Where no more can be remembered the other addresses are tried all the same.
func TestAnAddressThatIsNotRememberedIsPassedOver(t *testing.T) {
	toCart := toCart
	toCart.Host, toCart.Gateway, toCart.Dial = "lb.example", mesh.GatewayAddress{Hostname: shop.Key("gateway"), Port: 15008}, netip.AddrPortFrom(netip.Addr{}, 15008)
	onFarSide(t, func(t *testing.T, g *farSide, _ *Tunnels) {
		a := &addresses{gateway: g, behave: map[string]func(context.Context) error{"192.0.2.1": func(context.Context) error { return errors.New("connection refused") }}}
		names := &nameServer{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}}
		tunnels := NewTunnels(TunnelOptions{Certificates: g.source, Connect: a.connect, Settings: hbone.DefaultSettings(), Health: NewHealth(time.Now, noChance), Resolver: names})
		defer tunnels.Close()
		for i := range maxAway {
			tunnels.away.note(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 15008), false)
		}
		ctx, cancel := context.WithTimeout(t.Context(), ConnectDeadline)
		defer cancel()
		c, failure := tunnels.Dial(ctx, shopIdentity("client"), toCart, nil, "east")
		if failure != nil {
			t.Fatal(failure)
		}
		c.Close()
		c.Finish()
	})
}

func TestAddressesThatAreAwayAreBounded(t *testing.T) {
	var a away
	for i := range maxAway + 10 {
		a.note(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 15008), false)
	}
	if n := len(a.until); n != maxAway {
		t.Errorf("%d are remembered", n)
	}
	one := netip.MustParseAddrPort("10.0.0.1:15008")
	if !a.has(one) {
		t.Errorf("%v is forgotten", one)
	}
	if a.note(one, true); a.has(one) {
		t.Errorf("%v has answered", one)
	}
}
