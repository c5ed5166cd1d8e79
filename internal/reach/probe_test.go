// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

// west is a gateway, and its workload.
func westGate(addr string) (mesh.GatewayAddress, *mesh.Workload) {
	return mesh.GatewayAddress{Addr: shop.At("west", addr), Port: 15008}, shop.Pod("gw-"+addr, addr, shop.InNetwork("west"))
}

// A gateway that is away costs one connection a moment, and then nobody: that it is back, a probe finds out.
func TestProbesSpareConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, firstGateway := westGate("203.0.113.1")
		second, secondGateway := westGate("203.0.113.2")
		s := newSearcher(
			shop.Service("cart", "10.96.0.1"), firstGateway, secondGateway,
			shop.Pod("cart-1", "", shop.Behind(first), shop.Serves("cart", 80, 0)), shop.Pod("cart-2", "", shop.Behind(second), shop.Serves("cart", 80, 0)),
		)
		s.behave[tunnel("203.0.113.1")] = func(ctx context.Context) *Failure {
			<-ctx.Done()
			return &Failure{Refusal: unavailable(ReasonConnect, "%w", ctx.Err()), Gateway: true}
		}
		var up atomic.Bool
		var knocks atomic.Int32
		ended := make(chan struct{})
		s.watch = func(plan Plan) {
			g := &probe{health: s.health, away: gatewayOf(plan), dial: func(ctx context.Context) error {
				knocks.Add(1)
				if up.Load() {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}}
			if s.health.probe(g) {
				go func() { defer close(ended); g.run(t.Context()) }()
			}
		}
		met := func() (first, others int) {
			for range 60 {
				began := time.Now()
				s.connect(t.Context(), "10.96.0.1:80")
				if slices.Contains(s.dialled, "203.0.113.1") {
					first++
				} else if time.Since(began) == 0 {
					others++
				}
				time.Sleep(time.Second)
			}
			return first, others
		}
		if waited, fine := met(); waited != 1 || fine != 59 {
			t.Errorf("in a minute without the gateway %d connections met it, %d did not notice", waited, fine)
		}
		if n := knocks.Load(); n < 4 || n > maxProbes {
			t.Errorf("knocked %d times in a minute", n)
		}
		up.Store(true)
		delete(s.behave, tunnel("203.0.113.1"))
		<-ended
		if again, _ := met(); again != 60 {
			t.Errorf("of 60 connections %d use the gateway, which is back", again)
		}
	})
}

// So does an endpoint whose proxy does not answer. That it answers again only lets connections try: as long as they fail, it is passed over for longer each time.
func TestProbesSpareConnectionsToEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(2)...)
		broken := tunnel("10.0.0.1")
		s.behave[broken] = silent
		var up atomic.Bool
		s.watch = func(plan Plan) {
			if plan.Via != HBONE || plan.Picked == "" {
				t.Errorf("watch %+v", plan)
			}
			g := &probe{health: s.health, away: ejected{uid: plan.Picked}, admit: true, dial: func(ctx context.Context) error {
				if up.Load() {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}}
			if s.health.probe(g) {
				go g.run(t.Context())
			}
		}
		met := func(seconds int) (n int) {
			for range 10 * seconds {
				s.connect(t.Context(), "10.96.0.1:80")
				if slices.Contains(s.dialled, "10.0.0.1") {
					n++
				}
				time.Sleep(100 * time.Millisecond)
			}
			return n
		}
		if n := met(60); n != 1 {
			t.Errorf("in a minute %d connections met an endpoint that is silent, want the first", n)
		}
		up.Store(true)
		if n := met(120); n < 1 || n > 4 {
			t.Errorf("in two minutes %d connections met an endpoint that lets nothing through, want few", n)
		}
		delete(s.behave, broken)
		time.Sleep(2 * lastEjection)
		if n := met(1); n != 10 {
			t.Errorf("of 10 connections %d use an endpoint that is back", n)
		}
		// One of its ports that is closed is nobody's to probe: it is the application's.
		s.behave[broken] = answer(503, ReasonConnect)
		s.watch = func(Plan) { t.Error("watched") }
		s.connect(t.Context(), "10.96.0.1:80")
	})
}

func TestProbesGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, _ := westGate("203.0.113.1")
		key := ejected{gateway: gate}
		h := NewHealth(time.Now, noChance)
		asked := 0
		g := &probe{health: h, away: key, dial: func(context.Context) error { asked++; return errors.New("away") }}
		if h.probe(g) {
			t.Error("a gateway that is well is probed")
		}
		h.gatewayFailed(gate)
		if !h.probe(g) || h.probe(&probe{health: h, away: key}) {
			t.Error("want one who probes")
		}
		g.run(t.Context())
		if asked != maxProbes {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(2*lastEjection + 1)
		if h.out(netip.AddrPort{}, false); len(h.ejected) != 0 {
			t.Errorf("remembered: %v", h.ejected)
		}

		// It ends with its pod.
		h.gatewayFailed(gate)
		h.probe(g)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); g.run(ctx) }()
		cancel()
		<-done
		if h.ejected[key].probed() {
			t.Error("nobody probes it, and it is kept from connections")
		}
	})
}

// Who fails again, after a connection has found it well, is still probed by one alone.
func TestOneProbesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, _ := westGate("203.0.113.1")
		h := NewHealth(time.Now, noChance)
		var mu sync.Mutex // hold for both below
		asking, most := 0, 0
		note := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			asking += by
			most = max(most, asking)
		}
		watch := func() {
			g := &probe{health: h, away: ejected{gateway: gate}, dial: func(ctx context.Context) error {
				note(1)
				<-ctx.Done()
				note(-1)
				return ctx.Err()
			}}
			if h.probe(g) {
				go g.run(t.Context())
			}
		}
		for range 5 {
			h.gatewayFailed(gate)
			watch()
			time.Sleep(10 * time.Millisecond)
			h.worked(Plan{Gateway: gate}, netip.AddrPort{})
		}
		h.gatewayFailed(gate)
		watch()
		time.Sleep(5 * lastEjection)
		mu.Lock()
		if most != 1 {
			t.Errorf("%d probe it at once", most)
		}
		mu.Unlock()
		h.worked(Plan{Gateway: gate}, netip.AddrPort{})
		time.Sleep(2 * lastEjection)
		synctest.Wait()
		if len(h.ejected) != 0 {
			t.Errorf("remembered: %v", h.ejected)
		}
	})
}

// Clusters are used in the order of their nearness, and one after the other when they fail; what comes back is used again.
func TestFailoverFollowsTheOrderOfClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values := []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) {
			s.Balance = mesh.LoadBalancing{Mode: mesh.BalanceFailover, Preference: []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone}}
		}), shop.Pod("cart-here", "10.0.0.1", shop.Serves("cart", 80, 8080))}
		places := []mesh.Locality{{Region: "r1", Zone: "z1"}, {Region: "r1", Zone: "z2"}, {Region: "r2", Zone: "z3"}}
		addrs := []string{"203.0.113.1", "203.0.113.2", "203.0.113.3"}
		for i, place := range places {
			network := "net-" + addrs[i]
			gate := mesh.GatewayAddress{Addr: shop.At(network, addrs[i]), Port: 15008}
			values = append(values, shop.Pod("gw-"+addrs[i], addrs[i], shop.InNetwork(network)),
				shop.Pod("cart-"+network, "", shop.Behind(gate), shop.InNetwork(network), shop.Serves("cart", 80, 0), func(w *mesh.Workload) { w.Locality = place; w.Capacity = 100 }))
		}
		s := newSearcher(values...)
		s.place = mesh.Locality{Region: "r1", Zone: "z1"}
		order := append([]string{"10.0.0.1"}, addrs...)
		for i, addr := range order {
			if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || s.dialled[len(s.dialled)-1] != addr {
				t.Fatalf("with %d away: dialled %v, %v", i, s.dialled, refusal)
			}
			if i > 0 {
				s.behave[tunnel(addr)] = brokenGateway
			} else {
				s.behave[tunnel(addr)] = closedPort
			}
		}
		// All are away: they are tried all the same, and the next connection, too, gets what comes back first.
		if d, _ := s.connect(t.Context(), "10.96.0.1:80"); d != nil || len(s.dialled) != len(order) {
			t.Errorf("with all away: dialled %v", s.dialled)
		}
		delete(s.behave, tunnel(addrs[1]))
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil {
			t.Errorf("one is back: %v", refusal)
		}
		time.Sleep(2 * lastEjection)
		clear(s.behave)
		if d, _ := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, order[:1]) {
			t.Errorf("all are back: dialled %v", s.dialled)
		}
	})
}
