// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

// searcher runs attempts against a scripted network.
type searcher struct {
	view     *directory.View
	health   *Health
	behave   map[netip.AddrPort]func(context.Context) *Failure // by what is dialled; nil connects
	dialled  []string
	watch    func(Plan)    // what is done about gateways that are away
	place    mesh.Locality // of the client
	failures []Reason
	once     bool
}

func newSearcher(values ...any) *searcher {
	return &searcher{view: shop.View(values...), health: NewHealth(time.Now, noChance), behave: map[netip.AddrPort]func(context.Context) *Failure{}}
}

func (s *searcher) connect(ctx context.Context, dst string) (*Conn, *Refusal) {
	s.dialled, s.failures = nil, nil
	to := netip.MustParseAddrPort(dst)
	a := Search[*Conn]{
		Health: s.health, Random: func(uint64) uint64 { return 0 }, Once: s.once,
		Decide: func(c Choice) (Plan, *Refusal) {
			client := shop.Pod("client", "10.0.0.250", func(w *mesh.Workload) { w.Locality = s.place })
			from := From{View: s.view, Network: "east", Workload: client, Choice: c}
			return from.Service(s.view.ServiceAt("east", to.Addr(), client.Namespace), to.Port())
		},
		Dial: func(ctx context.Context, plan Plan) (*Conn, *Failure) {
			s.dialled = append(s.dialled, plan.Dial.Addr().String())
			if f := s.behave[plan.Dial]; f != nil {
				if failure := f(ctx); failure != nil {
					return nil, failure
				}
			}
			return &Conn{}, nil
		},
		Failed: func(_ Plan, r *Refusal) { s.failures = append(s.failures, r.Reason) },
		Down: func(plan Plan) {
			if s.watch != nil {
				s.watch(plan)
			}
		},
	}
	_, d, refusal := a.Connect(ctx, to)
	return d, refusal
}

func silent(ctx context.Context) *Failure {
	<-ctx.Done()
	return &Failure{Refusal: unavailable(ReasonConnect, "%w", ctx.Err())}
}

func closedPort(context.Context) *Failure {
	return &Failure{Refusal: unavailable(ReasonConnect, "connection refused")}
}

func answer(status int, reason Reason) func(context.Context) *Failure {
	return func(context.Context) *Failure {
		return &Failure{Refusal: &Refusal{Status: status, Reason: reason, Err: &hbone.RefusedError{Status: status}}}
	}
}

func brokenGateway(context.Context) *Failure {
	return &Failure{Refusal: unavailable(ReasonConnect, "no route"), Gateway: true}
}

func tunnel(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), mesh.HBONEPort)
}

func carts(n int) []any {
	out := []any{shop.Service("cart", "10.96.0.1")}
	for i := range n {
		out = append(out, shop.Pod("cart-"+string(rune('a'+i)), netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}).String(), shop.Serves("cart", 80, 8080)))
	}
	return out
}

func TestAttemptsMoveOnWithinTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(2)...)
		s.behave[tunnel("10.0.0.1")] = silent
		began := time.Now()
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.2"}) {
			t.Fatalf("dialled %v, %v", s.dialled, refusal)
		}
		if took := time.Since(began); took != attemptTimeout {
			t.Errorf("a silent endpoint cost %v", took)
		}
		if !slices.Equal(s.failures, []Reason{ReasonConnect}) {
			t.Errorf("failures told: %v", s.failures)
		}
		// The next connection passes it over; the ejection over, one tries it again.
		began = time.Now()
		if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.2"}) || time.Since(began) != 0 {
			t.Errorf("then dialled %v", s.dialled)
		}
		time.Sleep(firstEjection)
		if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.2"}) {
			t.Errorf("after the ejection dialled %v", s.dialled)
		}
		// Success restores, and forgets how often it failed.
		delete(s.behave, tunnel("10.0.0.1"))
		time.Sleep(2 * firstEjection)
		if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.1"}) || len(s.health.ejected) != 0 {
			t.Errorf("healed, dialled %v, remembered %v", s.dialled, s.health.ejected)
		}
	})
}

// What others find out while an attempt waits counts for the next one.
func TestAttemptsHeedTheNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(3)...)
		s.behave[tunnel("10.0.0.1")] = func(ctx context.Context) *Failure {
			s.health.failed(s.view.WorkloadAt("east", netip.MustParseAddr("10.0.0.2")).UID, netip.AddrPort{})
			return silent(ctx)
		}
		s.behave[tunnel("10.0.0.2")] = silent
		began := time.Now()
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.3"}) {
			t.Errorf("dialled %v, %v", s.dialled, refusal)
		}
		if took := time.Since(began); took != attemptTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

// Of what failed lately a connection tries one at most, as long as there is something that did not.
func TestAttemptsTryOneSuspectOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(4)...)
		for _, addr := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
			s.behave[tunnel(addr)] = silent
			s.health.failed(s.view.WorkloadAt("east", netip.MustParseAddr(addr)).UID, netip.AddrPort{})
		}
		time.Sleep(firstEjection)
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.4"}) {
			t.Errorf("dialled %v, %v", s.dialled, refusal)
		}
		// Without anything else, it tries on.
		s.behave[tunnel("10.0.0.4")] = silent
		time.Sleep(4 * firstEjection)
		if s.connect(t.Context(), "10.96.0.1:80"); len(s.dialled) < 3 {
			t.Errorf("with nothing else it dialled %v", s.dialled)
		}
	})
}

func TestAttemptsEndAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(6)...)
		for i := range 6 {
			s.behave[tunnel(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}).String())] = silent
		}
		began := time.Now()
		d, refusal := s.connect(t.Context(), "10.96.0.1:80")
		if took := time.Since(began); d != nil || refusal == nil || refusal.Reason != ReasonConnect || took > ConnectDeadline {
			t.Errorf("after %v: %v, %v", took, d, refusal)
		}
		if len(s.dialled) != maxAttempts {
			t.Errorf("dialled %v", s.dialled)
		}
	})
}

// While one connection finds out whether an endpoint is back, the others do without it.
func TestAttemptsProbeOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(2)...)
		s.health.failed("east//Pod/shop/cart-a", netip.AddrPort{})
		time.Sleep(firstEjection)
		s.behave[tunnel("10.0.0.1")] = func(ctx context.Context) *Failure {
			other := &searcher{view: s.view, health: s.health, behave: map[netip.AddrPort]func(context.Context) *Failure{}}
			if other.connect(ctx, "10.96.0.1:80"); !slices.Equal(other.dialled, []string{"10.0.0.2"}) {
				t.Errorf("during the probe dialled %v", other.dialled)
			}
			return closedPort(ctx)
		}
		if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.2"}) {
			t.Errorf("dialled %v", s.dialled)
		}
	})
}

func TestAttemptsUseTheLastOneWhateverItDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(1)...)
		s.behave[tunnel("10.0.0.1")] = closedPort
		for range 3 {
			if _, refusal := s.connect(t.Context(), "10.96.0.1:80"); len(s.dialled) != 1 || refusal.Reason != ReasonConnect {
				t.Errorf("dialled %v: %v", s.dialled, refusal)
			}
		}
		delete(s.behave, tunnel("10.0.0.1"))
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil {
			t.Error(refusal)
		}
	})
}

func TestAttemptsStopWhereOthersWouldSayTheSame(t *testing.T) {
	for _, tc := range []struct {
		name  string
		how   func(context.Context) *Failure
		tries int
	}{
		{"denied", answer(http.StatusUnauthorized, ReasonDenied), 1},
		{"bad target", answer(http.StatusBadRequest, ReasonBadTarget), 1},
		{"no certificate of our own", func(context.Context) *Failure {
			return &Failure{Refusal: unavailable(ReasonIdentity, "none")}
		}, 1},
		{"application away", answer(http.StatusServiceUnavailable, ReasonConnect), 2},
		{"another identity there", func(context.Context) *Failure {
			return &Failure{Refusal: unavailable(ReasonTLS, "stranger")}
		}, 2},
	} {
		s := newSearcher(carts(2)...)
		s.behave[tunnel("10.0.0.1")] = tc.how
		if s.connect(t.Context(), "10.96.0.1:80"); len(s.dialled) != tc.tries {
			t.Errorf("%s: dialled %v", tc.name, s.dialled)
		}
		if ejected, _ := s.health.Counts(); ejected != tc.tries-1 {
			t.Errorf("%s: %d ejected", tc.name, ejected)
		}
	}
}

// Who gives up says nothing about the endpoint.
func TestAttemptsBlameNobodyForTheirOwnEnd(t *testing.T) {
	s := newSearcher(carts(2)...)
	ctx, cancel := context.WithCancel(t.Context())
	s.behave[tunnel("10.0.0.1")] = func(ctx context.Context) *Failure { cancel(); return silent(ctx) }
	if d, refusal := s.connect(ctx, "10.96.0.1:80"); d != nil || !errors.Is(refusal, context.Canceled) || len(s.health.ejected) != 0 {
		t.Errorf("%v; ejected %v", refusal, s.health.ejected)
	}
}

// A gateway that cannot be connected is passed over for all services behind it; a service that fails behind it, for that service only.
func TestAttemptsTellGatewaysFromWhatIsBehindThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := func(addr string) (mesh.GatewayAddress, *mesh.Workload) {
			return mesh.GatewayAddress{Addr: shop.At("west", addr), Port: 15008}, shop.Pod("gw-"+addr, addr, shop.InNetwork("west"))
		}
		first, firstGateway := door("203.0.113.1")
		second, secondGateway := door("203.0.113.2")
		s := newSearcher(
			shop.Service("cart", "10.96.0.1"), shop.Service("pay", "10.96.0.2"), firstGateway, secondGateway,
			shop.Pod("cart-1", "", shop.Behind(first), shop.Serves("cart", 80, 0)), shop.Pod("cart-2", "", shop.Behind(second), shop.Serves("cart", 80, 0)),
			shop.Pod("pay-1", "", shop.Behind(first), shop.Serves("pay", 80, 0)), shop.Pod("pay-2", "", shop.Behind(second), shop.Serves("pay", 80, 0)),
		)
		try := func(dst string, want ...string) {
			t.Helper()
			if d, refusal := s.connect(t.Context(), dst); d == nil || !slices.Equal(s.dialled, want) {
				t.Errorf("%s: dialled %v, want %v; %v", dst, s.dialled, want, refusal)
			}
		}
		s.behave[tunnel("203.0.113.1")] = brokenGateway
		try("10.96.0.1:80", "203.0.113.1", "203.0.113.2")
		try("10.96.0.2:80", "203.0.113.2")
		delete(s.behave, tunnel("203.0.113.1"))
		time.Sleep(firstEjection)
		try("10.96.0.2:80", "203.0.113.1")

		// One that answers works, whatever it says.
		s.health.gatewayFailed(first)
		time.Sleep(firstEjection)
		s.behave[tunnel("203.0.113.1")] = answer(http.StatusServiceUnavailable, ReasonConnect)
		try("10.96.0.1:80", "203.0.113.1", "203.0.113.2")
		for failed := range s.health.ejected {
			if failed.isGateway() {
				t.Errorf("it is remembered that %v failed", failed.gateway)
			}
		}
		delete(s.behave, tunnel("203.0.113.1"))
		try("10.96.0.2:80", "203.0.113.1")
		try("10.96.0.1:80", "203.0.113.2")
	})
}

// What failed in a session that was there before says nothing good of its gateway, nor anything bad.
func TestAttemptsKnowWhenAGatewayWasNotAsked(t *testing.T) {
	gate, host := westGate("203.0.113.1")
	s := newSearcher(shop.Service("cart", "10.96.0.1"), host, shop.Pod("cart-1", "", shop.Behind(gate), shop.Serves("cart", 80, 0)))
	for _, unheard := range []bool{true, false} {
		s.health.gatewayFailed(gate)
		s.behave[tunnel("203.0.113.1")] = func(context.Context) *Failure {
			return &Failure{Refusal: unavailable(ReasonTunnel, "silence"), Unheard: unheard}
		}
		s.connect(t.Context(), "10.96.0.1:80")
		if _, remembered := s.health.ejected[ejected{gateway: gate}]; remembered != unheard {
			t.Errorf("unheard %v: its failure is remembered: %v", unheard, remembered)
		}
	}
}

// A port that an endpoint without a proxy does not serve says nothing about its other ports.
func TestAttemptsBlameThePortOfAPlainEndpoint(t *testing.T) {
	plain := func(w *mesh.Workload) { w.Tunnel = mesh.TunnelNone }
	s := newSearcher(
		shop.Service("cart", "10.96.0.1"), shop.Pod("cart-1", "10.0.0.1", plain, shop.Serves("cart", 80, 8080)), shop.Pod("cart-2", "10.0.0.2", plain, shop.Serves("cart", 80, 8080)),
	)
	s.behave[netip.MustParseAddrPort("10.0.0.1:8080")] = closedPort
	if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.2"}) {
		t.Errorf("dialled %v: %v", s.dialled, refusal)
	}
	if n := len(s.health.out(netip.MustParseAddrPort("10.96.0.1:81"), false).Endpoints); n != 0 {
		t.Errorf("%d endpoints are passed over for another port", n)
	}
	if n := len(s.health.out(netip.MustParseAddrPort("10.96.0.1:80"), false).Endpoints); n != 1 {
		t.Errorf("%d endpoints are passed over for this one", n)
	}
}

// A gateway with several pods of its own is not given up because one of them is dead.
func TestAttemptsTryTheOtherPodsOfAGateway(t *testing.T) {
	s := newSearcher(
		shop.Service("cart", "10.96.0.1"), shop.Pod("split", "", shop.Behind(mesh.GatewayAddress{Hostname: shop.Key("gate"), Port: 15008}), shop.Serves("cart", 80, 0)),
		shop.Service("gate", "", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 15008, Target: 15008}} }),
		shop.Pod("gate-1", "203.0.113.1", shop.InNetwork("west"), shop.Serves("gate", 15008, 15008)),
		shop.Pod("gate-2", "203.0.113.2", shop.InNetwork("west"), shop.Serves("gate", 15008, 15008)),
	)
	s.behave[tunnel("203.0.113.1")] = brokenGateway
	if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"203.0.113.1", "203.0.113.2"}) {
		t.Errorf("dialled %v: %v", s.dialled, refusal)
	}
	if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"203.0.113.2"}) {
		t.Errorf("then dialled %v", s.dialled)
	}
}

// Behind the only address of a gateway a process that is being replaced refuses: the next one there is a moment away.
func TestAttemptsTryTheOnlyGatewayAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, host := westGate("203.0.113.1")
		s := newSearcher(
			shop.Service("cart", "10.96.0.1"), host, shop.Pod("cart-1", "", shop.Behind(gate), shop.Serves("cart", 80, 0)), shop.Pod("cart-2", "10.0.0.2", shop.Serves("cart", 80, 8080)),
		)
		s.behave[tunnel("10.0.0.2")] = closedPort
		s.behave[tunnel("203.0.113.1")] = func(ctx context.Context) *Failure {
			if slices.Index(s.dialled, "203.0.113.1") == len(s.dialled)-1 {
				return brokenGateway(ctx)
			}
			return nil
		}
		began := time.Now()
		_, refusal := s.connect(t.Context(), "10.96.0.1:80")
		if want := []string{"203.0.113.1", "10.0.0.2", "203.0.113.1"}; refusal != nil || !slices.Equal(s.dialled, want) {
			t.Errorf("dialled %v, want %v; %v", s.dialled, want, refusal)
		}
		if took := time.Since(began); took != againAfter {
			t.Errorf("it took %v", took)
		}
		// One that stays away is given up.
		s.behave[tunnel("203.0.113.1")] = brokenGateway
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d != nil || refusal == nil || len(s.dialled) < 2 || len(s.dialled) > maxAttempts {
			t.Errorf("dialled %v; %v", s.dialled, refusal)
		}
		if took := time.Since(began); took > 10*againAfter {
			t.Errorf("to give up took %v", took)
		}
	})
}

// Who has other places to go waits for no gateway.
func TestAttemptsGiveUpAGatewayAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, host := westGate("203.0.113.1")
		s := newSearcher(shop.Service("cart", "10.96.0.1"), host, shop.Pod("cart-1", "", shop.Behind(gate), shop.Serves("cart", 80, 0)))
		s.behave[tunnel("203.0.113.1")] = brokenGateway
		s.once = true
		began := time.Now()
		if d, refusal := s.connect(t.Context(), "10.96.0.1:80"); d != nil || refusal == nil || len(s.dialled) != 1 || time.Since(began) != 0 {
			t.Errorf("dialled %v in %v; %v", s.dialled, time.Since(began), refusal)
		}
	})
}

// hosts answers look-ups.
type hosts map[string][]netip.Addr

func (h hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if addrs, ok := h[host]; ok {
		return slices.Clone(addrs), nil
	}
	return nil, errors.New("no such host")
}

func TestResolved(t *testing.T) {
	r := hosts{"both": {netip.MustParseAddr("fd00::1"), netip.MustParseAddr("::ffff:10.0.0.1")}, "six": {netip.MustParseAddr("fd00::1")},
		"inside": {netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("::"), netip.MustParseAddr("224.0.0.1")},
		"mixed":  {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.2")},
	}
	for _, tc := range []struct {
		name   string
		plan   Plan
		dial   string
		target string
		reason Reason
	}{
		{"the family dialled", Plan{Host: "both", TargetPort: 8080}, "10.0.0.1:15008", "10.0.0.1:8080", ""},
		{"the family dialled is IPv6", Plan{Host: "both", IPv6: true, TargetPort: 8080}, "[fd00::1]:15008", "[fd00::1]:8080", ""},
		{"the other, if there is none", Plan{Host: "six"}, "[fd00::1]:15008", "", ""},
		{"a target that was set stays", Plan{Host: "six", Target: "cart:80"}, "[fd00::1]:15008", "cart:80", ""},
		{"not one that is not allowed", Plan{Host: "six", Families: mesh.FamiliesIPv4}, "", "", ReasonWrongFamily},
		{"none that means another thing to each host", Plan{Host: "inside"}, "", "", ReasonConnect},
		{"the one among them that does not", Plan{Host: "mixed"}, "10.0.0.2:15008", "", ""},
		{"unknown", Plan{Host: "nowhere"}, "", "", ReasonConnect},
	} {
		tc.plan.Dial = netip.AddrPortFrom(netip.Addr{}, 15008)
		got, err := resolved(t.Context(), r, tc.plan)
		if tc.reason != "" {
			if err == nil || RefusalOf(err).Reason != tc.reason {
				t.Errorf("%s: %v", tc.name, err)
			}
		} else if err != nil || got[0].Dial.String() != tc.dial || got[0].Target != tc.target {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
}

// All addresses of a name are tried that may be, each as if it were the only one.
func TestResolvedToSeveral(t *testing.T) {
	r := hosts{"lb": {netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("10.0.0.2")}}
	for name, tc := range map[string]struct {
		plan Plan
		want []string
	}{
		"IPv4 was dialled":     {Plan{}, []string{"10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080"}},
		"IPv6 was dialled":     {Plan{IPv6: true}, []string{"[fd00::1]:8080", "10.0.0.1:8080", "10.0.0.2:8080"}},
		"only IPv6 is allowed": {Plan{Families: mesh.FamiliesIPv6}, []string{"[fd00::1]:8080"}},
	} {
		tc.plan.Host, tc.plan.TargetPort, tc.plan.Dial = "lb", 8080, netip.AddrPortFrom(netip.Addr{}, 15008)
		plans, err := resolved(t.Context(), r, tc.plan)
		var got []string
		for _, plan := range plans {
			got = append(got, plan.Target)
			if plan.Several != (len(tc.want) > 1) || plan.Dial.Port() != 15008 {
				t.Errorf("%s: %+v", name, plan)
			}
		}
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, tc.want)
		}
	}
}

// doors are n gateways of another network, all of them down but for the last if it is well, each with a part of a service's pods behind it.
func (s *searcher) doors(n int, wellAtLast bool) (values []any) {
	for i := range n {
		addr := fmt.Sprintf("192.0.2.%d", i+1)
		gw := mesh.GatewayAddress{Addr: shop.At("west", addr), Port: 15008}
		values = append(values, shop.Pod("gw-"+addr, addr, shop.InNetwork("west")), shop.Pod("a-far-"+addr, "", shop.Behind(gw), shop.Serves("cart", 80, 8080)))
		if i < n-1 || !wellAtLast {
			s.behave[tunnel(addr)] = brokenGateway
		}
	}
	return values
}

// TestLostNetworkLeavesAttempts: a cluster that is lost may have more gateways than there are attempts, and pods here are well.
func TestLostNetworkLeavesAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher()
		s.view = shop.View(append(s.doors(16, false), append(carts(0), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080)))...)...)
		conn, refusal := s.connect(t.Context(), "10.96.0.1:80")
		if conn == nil {
			t.Fatalf("refused after %v: %v", s.dialled, refusal)
		}
		if len(s.dialled) != doorsOfNetwork+1 {
			t.Errorf("tried %v", s.dialled)
		}
	})
}

// TestNothingElsewhere: the others of that network are tried if there is nothing else.
func TestNothingElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher()
		s.view = shop.View(append(s.doors(5, true), carts(0)...)...)
		if conn, refusal := s.connect(t.Context(), "10.96.0.1:80"); conn == nil {
			t.Fatalf("refused after %v: %v", s.dialled, refusal)
		}
		if len(s.dialled) != 5 {
			t.Errorf("tried %v", s.dialled)
		}
	})
}
