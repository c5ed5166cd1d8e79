// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

// An endpoint that there is no way to is one that failed, not the end of the search: whoever has met one, or another failure, goes on to those that can be reached.
func TestNoWayToOneIsNoEnd(t *testing.T) {
	nowhere := func(name, addr string) *mesh.Workload {
		return shop.Pod(name, "", shop.Behind(mesh.GatewayAddress{Addr: shop.At("west", addr), Port: 15008}), shop.Serves("cart", 80, 8080))
	}
	local := func(name, addr string) *mesh.Workload { return shop.Pod(name, addr, shop.Serves("cart", 80, 8080)) }
	for name, first := range map[string]*mesh.Workload{
		"after another one of these": nowhere("cart-a", "192.0.2.1"),
		"after one that refuses":     local("cart-a", "10.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSearcher(shop.Service("cart", "10.96.0.1"), first, nowhere("cart-b", "192.0.2.2"), local("cart-c", "10.0.0.3"))
				s.behave[tunnel("10.0.0.1")] = closedPort
				d, refusal := s.connect(t.Context(), "10.96.0.1:80")
				if d == nil || len(s.dialled) == 0 || s.dialled[len(s.dialled)-1] != "10.0.0.3" {
					t.Fatalf("dialled %v, %v", s.dialled, refusal)
				}
				if !slices.Contains(s.failures, ReasonNoGateway) {
					t.Errorf("failures told: %v", s.failures)
				}
			})
		})
	}
}

// However many there are, they take no attempts from those that can be reached: nobody was asked.
func TestWaylessAreNoAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := []any{shop.Service("cart", "10.96.0.1")}
		for i := range 3 * maxAttempts {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String()
			world = append(world, shop.Pod(fmt.Sprintf("cart-%02d", i), "", shop.Behind(mesh.GatewayAddress{Addr: shop.At("west", addr), Port: 15008}), shop.Serves("cart", 80, 8080)))
		}
		for i := range maxAttempts {
			world = append(world, shop.Pod("till-"+string(rune('a'+i)), netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}).String(), shop.Serves("cart", 80, 8080)))
		}
		s := newSearcher(world...)
		var want []string
		for i := range maxAttempts - 1 {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			want = append(want, addr.String())
			s.behave[tunnel(addr.String())] = closedPort
		}
		want = append(want, netip.AddrFrom4([4]byte{10, 0, 0, maxAttempts}).String())
		began := time.Now()
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, want) {
			t.Fatalf("dialled %v, want %v: %v", s.dialled, want, refusal)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// Nor do they take time from the last one that can be reached.
func TestWaylessTakeNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(shop.Service("cart", "10.96.0.1"), shop.Pod("cart-a", "10.0.0.1", shop.Serves("cart", 80, 8080)),
			shop.Pod("cart-b", "", shop.Behind(mesh.GatewayAddress{Addr: shop.At("west", "192.0.2.1"), Port: 15008}), shop.Serves("cart", 80, 8080)))
		s.behave[tunnel("10.0.0.1")] = func(ctx context.Context) *Failure {
			if wait(ctx, 2*attemptTimeout) {
				return nil
			}
			return silent(ctx)
		}
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil {
			t.Errorf("dialled %v, %v", s.dialled, refusal)
		}
	})
}

// If there is no way to any of them, that is the reason.
func TestNoWayAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nowhere := func(name, addr string) *mesh.Workload {
			return shop.Pod(name, "", shop.Behind(mesh.GatewayAddress{Addr: shop.At("west", addr), Port: 15008}), shop.Serves("cart", 80, 8080))
		}
		s := newSearcher(shop.Service("cart", "10.96.0.1"), nowhere("cart-a", "192.0.2.1"), nowhere("cart-b", "192.0.2.1"), nowhere("cart-c", "192.0.2.2"))
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d != nil || refusal == nil || refusal.Reason != ReasonNoGateway || len(s.dialled) > 0 {
			t.Errorf("dialled %v, %v", s.dialled, refusal)
		}
	})
}

// As soon as a way is known it is taken: that there was none is nothing that an endpoint is passed over for.
func TestAWayIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gateway := mesh.GatewayAddress{Addr: shop.At("west", "192.0.2.1"), Port: 15008}
		remote, local := shop.Pod("cart-a", "", shop.Behind(gateway), shop.Serves("cart", 80, 8080)), shop.Pod("cart-b", "10.0.0.2", shop.Serves("cart", 80, 8080))
		s := newSearcher(shop.Service("cart", "10.96.0.1"), remote, local)
		for range 10 {
			if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"10.0.0.2"}) {
				t.Fatalf("dialled %v, %v", s.dialled, refusal)
			}
			time.Sleep(firstEjection + time.Second/2)
		}
		s.view = shop.View(shop.Service("cart", "10.96.0.1"), remote, local, shop.Pod("gateway", "192.0.2.1", shop.InNetwork("west")))
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"192.0.2.1"}) {
			t.Errorf("with a way, dialled %v, %v", s.dialled, refusal)
		}
	})
}

// A gateway that is known by name has not failed, either, if it answered that what is behind it has.
func TestANamedGatewayAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		named := mesh.GatewayAddress{Hostname: shop.Key("gateway"), Port: 15008}
		s := newSearcher(shop.Service("cart", "10.96.0.1"), shop.Pod("cart-a", "", shop.Behind(named), shop.Serves("cart", 80, 8080)),
			shop.Pod("gateway", "", shop.InNetwork("west"), func(w *mesh.Workload) { w.Hostname = shop.Key("gateway").Hostname }))
		s.once = true
		to := netip.AddrPortFrom(netip.Addr{}, 15008)
		s.behave[to] = brokenGateway
		s.connect(t.Context(), "10.96.0.1:80")
		if _, gateways := s.health.Counts(); gateways != 1 {
			t.Fatalf("%d gateways are passed over", gateways)
		}
		s.behave[to] = answer(503, ReasonConnect)
		s.connect(t.Context(), "10.96.0.1:80")
		if _, gateways := s.health.Counts(); gateways != 0 {
			t.Errorf("%d gateways are passed over, which answered", gateways)
		}
	})
}
