// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// frozen stops the gateway's clock, so that an endpoint that is left out stays out, however slow the machine is.
func frozen(o *Options) {
	now := time.Now()
	o.Now = func() time.Time { return now }
}

func TestDeadEndpointsAreSkippedAndLeftOut(t *testing.T) {
	s := newScene(t, frozen)
	s.configure(nil)
	s.add(podWorkload(1, nil), podWorkload(2, nil), s.pod(3)) // two that refuse
	outer := s.outer(15008, clientID)
	for range 10 {
		answer, header, err := s.call(outer, authority, "x")
		if err != nil || !strings.HasPrefix(answer, "cart-3 ") {
			t.Fatalf("%q, %v", answer, err)
		}
		if header.Get(headerEndpoints) != "3" {
			t.Errorf("%s endpoints, want the 3 that discovery calls ready", header.Get(headerEndpoints))
		}
	}
	dead := 0
	for _, d := range s.dialled() {
		if d.Addr() != netip.MustParseAddr("10.0.0.3") {
			dead++
		}
	}
	if dead > 2 {
		t.Errorf("dead endpoints were dialled %d times for 10 streams, want each once at most", dead)
	}
}

func TestAllEndpointsDead(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(podWorkload(1, nil), podWorkload(2, nil))
	outer := s.outer(15008, clientID)
	for range 3 {
		if status, reason := s.refusal(outer, authority, nil); status != 503 || reason != string(ReasonConnect) {
			t.Errorf("%d %q", status, reason)
		}
	}
	// Left out or not, endpoints that are the last hope are tried each time.
	if got := len(s.dialled()); got != 6 {
		t.Errorf("%d attempts for 3 streams on 2 endpoints, want 6", got)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	for n := range 3 * maxAttempts {
		s.add(podWorkload(n+1, nil))
	}
	outer := s.outer(15008, clientID)
	if status, reason := s.refusal(outer, authority, nil); status != 503 || reason != string(ReasonConnect) {
		t.Errorf("%d %q", status, reason)
	}
	if got := len(s.dialled()); got != maxAttempts {
		t.Errorf("%d attempts for one stream, want %d", got, maxAttempts)
	}
}

func TestSilentEndpointCostsOneAttemptOnly(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.AttemptTimeout = time.Second; o.Limits.ConnectTimeout = patience })
	s.configure(nil)
	s.add(podWorkload(1, nil), s.pod(2))
	s.mu.Lock()
	s.black[netip.MustParseAddrPort("10.0.0.1:15008")] = true
	s.mu.Unlock()
	outer := s.outer(15008, clientID)
	for range 4 {
		if answer, _, err := s.call(outer, authority, "x"); err != nil || !strings.HasPrefix(answer, "cart-2 ") {
			t.Fatalf("%q, %v", answer, err)
		}
	}
}

func TestAllAttemptsShareOneDeadline(t *testing.T) {
	s := newScene(t, func(o *Options) {
		o.Limits.AttemptTimeout = 40 * time.Millisecond
		o.Limits.ConnectTimeout = 100 * time.Millisecond
	})
	s.configure(nil)
	for n := range 20 {
		s.add(podWorkload(n+1, nil))
		s.mu.Lock()
		s.black[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}), 15008)] = true
		s.mu.Unlock()
	}
	outer := s.outer(15008, clientID)
	if status, reason := s.refusal(outer, authority, nil); status != 503 || reason != string(ReasonConnect) {
		t.Errorf("%d %q", status, reason)
	}
	if got := len(s.dialled()); got > 4 {
		t.Errorf("%d attempts of 40 ms within a deadline of 100 ms", got)
	}
}

// An endpoint that ended while it was tried leaves no one out: who is dead besides does not get the time of who is not.
func TestEndpointThatIsGoneTakesNoAttempt(t *testing.T) {
	s := newScene(t, func(o *Options) {
		o.Limits.AttemptTimeout, o.Limits.ConnectTimeout = 100*time.Millisecond, patience
		dial, live := o.Dial, o.Directory
		o.Dial = func(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
			if to.Addr() == netip.MustParseAddr("10.0.0.1") {
				live.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{podWorkload(1, nil).UID: nil}})
			}
			return dial(ctx, to)
		}
	})
	s.configure(nil)
	s.add(podWorkload(1, nil), podWorkload(2, nil), s.pod(3))
	s.mu.Lock()
	s.black[netip.MustParseAddrPort("10.0.0.2:15008")] = true
	s.mu.Unlock()
	if answer, _, err := s.call(s.outer(15008, clientID), authority, "x"); err != nil || !strings.HasPrefix(answer, "cart-3 ") {
		t.Errorf("%q, %v after %v", answer, err, s.dialled())
	}
}

// Who has what others have left of the time is not left out for that it was not enough.
func TestHastyAttemptSaysLittle(t *testing.T) {
	s := newScene(t, func(o *Options) {
		o.Limits.AttemptTimeout = time.Second
		o.Limits.ConnectTimeout = 1800 * time.Millisecond
	})
	s.configure(nil)
	s.add(podWorkload(1, nil), podWorkload(2, nil))
	s.mu.Lock()
	for n := range 2 {
		s.black[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}), 15008)] = true
	}
	s.mu.Unlock()
	if status, reason := s.refusal(s.outer(15008, clientID), authority, nil); status != 503 || reason != string(ReasonConnect) {
		t.Errorf("%d %q", status, reason)
	}
	if got := len(s.dialled()); got != 2 {
		t.Errorf("%d attempts", got)
	}
	if n := s.logs.text(); strings.Count(n, "endpoint left out") != 1 {
		t.Errorf("left out is not the first one alone:\n%s", n)
	}
}

func TestClientThatLeavesStopsTheAttempt(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(podWorkload(1, nil))
	s.mu.Lock()
	s.black[netip.MustParseAddrPort("10.0.0.1:15008")] = true
	s.mu.Unlock()
	outer := s.outer(15008, clientID)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.until("the endpoint is dialled", func() bool { return len(s.dialled()) == 1 })
		cancel()
	}()
	if _, _, err := outer.Open(ctx, authority, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.until("it is logged", func() bool { return len(s.logs.access()) == 1 })
	if reason := s.logs.access()[0]["reason"]; reason != string(ReasonClientGone) {
		t.Errorf("reason %v", reason)
	}
	if _, out, _ := s.server.balancer.counts(); out != 0 {
		t.Error("the endpoint was blamed for the client's leaving")
	}
	s.until("nothing is left of it", func() bool { return s.server.streamQuota.used() == 0 })
}

func TestEndpointThatAcceptsAndHangsUpIsLeftOut(t *testing.T) {
	s := newScene(t, frozen)
	s.configure(nil)
	s.add(s.tcp(1, func(nc *net.TCPConn) { _, _ = nc.Read(make([]byte, 1)) }), s.pod(2)) // one hangs up after the first byte
	outer := s.outer(15008, clientID)
	failed := 0
	for range 8 {
		if _, _, err := s.call(outer, authority, "x"); err != nil {
			failed++
			// The next stream must find the endpoint left out, so wait until this one's end was noticed.
			s.until("the failure is known", func() bool { _, out, _ := s.server.balancer.counts(); return out == 1 })
		}
	}
	if failed > 1 {
		t.Errorf("%d of 8 streams met an endpoint that hangs up, want the first only", failed)
	}
}

func TestStreamsAreSpreadEvenlyAndAvoidIsHonoured(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.pod(1), s.pod(2), s.pod(3))
	outer := s.outer(15008, clientID)
	ids := map[string]int{}
	for range 30 {
		_, header, err := s.call(outer, authority, "x")
		if err != nil {
			t.Fatal(err)
		}
		ids[header.Get(headerEndpoint)]++
		s.until("it has ended", func() bool { return s.server.streamQuota.used() == 0 })
	}
	if len(ids) != 3 {
		t.Fatalf("%v", ids)
	}
	var names []string
	for id, n := range ids {
		if n != 10 {
			t.Errorf("endpoint %s has %d of 30 streams", id, n)
		}
		names = append(names, id)
	}
	slices.Sort(names)
	for range 5 {
		stream, header, err := outer.Open(t.Context(), authority, hbone.Header{{Name: headerAvoid, Value: names[0] + ", " + names[2]}})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if header.Get(headerEndpoint) != names[1] {
			t.Errorf("got %s, asked to avoid all but %s", header.Get(headerEndpoint), names[1])
		}
	}
	stream, _, err := outer.Open(t.Context(), authority, hbone.Header{{Name: headerAvoid, Value: strings.Join(names, ",")}})
	if err != nil {
		t.Errorf("all are to be avoided: %v, want any", err)
	} else {
		stream.Close()
	}
}
