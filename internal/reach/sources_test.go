// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"fmt"
	"github.com/isthmus-mesh/isthmus/test/shop"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// another is the same scene for another source in the same process.
func (s *searcher) another() *searcher {
	other := *s
	other.health, other.behave = s.health.New(), map[netip.AddrPort]func(context.Context) *Failure{}
	return &other
}

// What one source cannot reach, be it an endpoint or a gateway, is not passed over for another one.
func TestFailuresAreOfTheirSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, how := range []func(context.Context) *Failure{silent, closedPort, answer(503, ReasonConnect)} {
			s := newSearcher(carts(2)...)
			other := s.another()
			s.behave[tunnel("10.0.0.1")] = how
			if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.2"}) {
				t.Fatalf("dialled %v", s.dialled)
			}
			if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.2"}) {
				t.Errorf("who failed dials %v", s.dialled)
			}
			if other.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(other.dialled, []string{"10.0.0.1"}) {
				t.Errorf("who did not dials %v", other.dialled)
			}
			// That another one gets through says nothing to who does not.
			if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.2"}) {
				t.Errorf("then who failed dials %v", s.dialled)
			}
		}
		gate, host := westGate("203.0.113.1")
		s := newSearcher(shop.Service("cart", "10.96.0.1"), host, shop.Pod("cart-1", "", shop.Behind(gate), shop.Serves("cart", 80, 0)), shop.Pod("cart-2", "10.0.0.2", shop.Serves("cart", 80, 8080)))
		other := s.another()
		s.behave[tunnel("203.0.113.1")] = brokenGateway
		s.connect(t.Context(), "10.96.0.1:80")
		if s.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(s.dialled, []string{"10.0.0.2"}) {
			t.Errorf("without its gateway it dials %v", s.dialled)
		}
		if other.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(other.dialled, []string{"203.0.113.1"}) {
			t.Errorf("the other one dials %v", other.dialled)
		}
		if endpoints, gateways := s.health.Counts(); endpoints != 0 || gateways != 1 {
			t.Errorf("%d endpoints and %d gateways are passed over", endpoints, gateways)
		}
	})
}

// An endpoint that is silent to one source costs the next one less.
func TestOthersAreWarned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSearcher(carts(2)...)
		other, third := s.another(), s.another()
		s.behave[tunnel("10.0.0.1")], other.behave[tunnel("10.0.0.1")] = silent, silent
		for _, tc := range []struct {
			who  *searcher
			took time.Duration
		}{{s, attemptTimeout}, {other, rumouredTimeout}, {third, 0}} {
			began := time.Now()
			if d, refusal := tc.who.connect(t.Context(), "10.96.0.1:80"); d == nil {
				t.Fatal(refusal)
			}
			if took := time.Since(began); took != tc.took {
				t.Errorf("it took %v, want %v", took, tc.took)
			}
		}
		// What only one remembers is no rumour to itself, and nobody's when that one has gone.
		other.health.Close()
		time.Sleep(2 * lastEjection)
		began := time.Now()
		if s.connect(t.Context(), "10.96.0.1:80"); time.Since(began) != attemptTimeout {
			t.Errorf("alone it took %v", time.Since(began))
		}
		s.health.Close()
		third.behave[tunnel("10.0.0.1")] = silent
		began = time.Now()
		if third.connect(t.Context(), "10.96.0.1:80"); time.Since(began) != attemptTimeout {
			t.Errorf("without rumours it took %v", time.Since(began))
		}
	})
}

func TestHealthsAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	hs := NewHealths(func() time.Time { return now }, noChance)
	var all []*Health
	for i := range maxAllEjections/maxEjections + 8 {
		h := hs.New()
		all = append(all, h)
		for k := range maxEjections + 1 {
			h.failed(fmt.Sprint(i, " ", k), netip.AddrPort{})
		}
	}
	if hs.all != maxAllEjections || len(hs.news) != maxAllEjections {
		t.Errorf("%d are remembered, %d names", hs.all, len(hs.news))
	}
	// A source that is never heard of again does not keep others from remembering.
	now = now.Add(time.Hour)
	all[len(all)-1].failed("new", netip.AddrPort{})
	if hs.all != 1 || len(hs.news) != 1 {
		t.Errorf("%d are remembered after an hour", hs.all)
	}
	for _, h := range all {
		h.Close()
		h.failed("late", netip.AddrPort{})
	}
	if hs.all+len(hs.news)+len(hs.sources) != 0 {
		t.Errorf("left: %d, %v, %d sources", hs.all, hs.news, len(hs.sources))
	}
}

// Whoever remembers little always can, however many others remember all they may.
func TestHealthsShareTheirRoom(t *testing.T) {
	hs := NewHealths(time.Now, noChance)
	var filling sync.WaitGroup
	for i := range maxAllEjections/maxEjections + 8 {
		h := hs.New()
		filling.Go(func() {
			for k := range maxEjections {
				h.failed(fmt.Sprint(i%2), netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(k+1)))
			}
		})
	}
	filling.Wait()
	h := hs.New()
	for k := range 100 {
		h.failed(fmt.Sprint(k), netip.AddrPort{})
	}
	if len(h.ejected) != 100 || hs.all != maxAllEjections {
		t.Errorf("one of 100 failures remembers %d; all remember %d", len(h.ejected), hs.all)
	}
	sum := 0
	for _, h := range hs.list() {
		sum += len(h.ejected)
	}
	if sum != hs.all || len(hs.news) > sum {
		t.Errorf("%d are remembered, %d are counted, there are %d rumours", sum, hs.all, len(hs.news))
	}
}

// However long one source is busy with what it remembers, the others are not.
func TestHealthsDoNotWaitForEachOther(t *testing.T) {
	hs := NewHealths(time.Now, noChance)
	busy, other := hs.New(), hs.New()
	busy.failed("a", netip.AddrPort{})
	busy.mu.Lock()
	defer busy.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		plan, dst := Plan{Picked: "a"}, netip.MustParseAddrPort("10.96.0.10:80")
		if !other.rumoured(plan) {
			t.Error("it hears nothing")
		}
		other.failed("a", dst)
		other.trying(plan, dst)
		other.out(dst, true)
		other.worked(plan, dst)
		hs.New().Close()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("they wait")
	}
}

// Whom an endpoint or a gateway does not believe goes elsewhere, and blames nobody. So does whom a policy refuses, without trying others.
func TestNobodyIsBlamedForOurOwnCertificate(t *testing.T) {
	for _, code := range []uint8{42, 45, 48, 49, 116} {
		accused := func(gateway bool) func(context.Context) *Failure {
			return func(context.Context) *Failure {
				return &Failure{Refusal: RefusalOf(TLSError(remoteAlert(code))), Gateway: gateway}
			}
		}
		s := newSearcher(carts(2)...)
		s.behave[tunnel("10.0.0.1")] = accused(false)
		if d, _ := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"10.0.0.1", "10.0.0.2"}) || len(s.health.ejected) != 0 {
			t.Errorf("alert %d: dialled %v, passed over %v", code, s.dialled, s.health.ejected)
		}
		gate, host := westGate("203.0.113.1")
		s = newSearcher(shop.Service("cart", "10.96.0.1"), host, shop.Pod("cart-1", "", shop.Behind(gate), shop.Serves("cart", 80, 0)), shop.Pod("cart-2", "10.0.0.2", shop.Serves("cart", 80, 8080)))
		s.behave[tunnel("203.0.113.1")] = accused(true)
		if d, _ := s.connect(t.Context(), "10.96.0.1:80"); d == nil || !slices.Equal(s.dialled, []string{"203.0.113.1", "10.0.0.2"}) || len(s.health.ejected) != 0 {
			t.Errorf("alert %d of a gateway: dialled %v, passed over %v", code, s.dialled, s.health.ejected)
		}
	}
	// handshake_failure says nothing of us.
	s := newSearcher(carts(2)...)
	s.behave[tunnel("10.0.0.1")] = func(context.Context) *Failure {
		return &Failure{Refusal: RefusalOf(TLSError(remoteAlert(40)))}
	}
	if s.connect(t.Context(), "10.96.0.1:80"); len(s.health.ejected) != 1 {
		t.Errorf("another alert: passed over %v", s.health.ejected)
	}
	for _, status := range []int{401, 403} {
		s := newSearcher(carts(2)...)
		s.behave[tunnel("10.0.0.1")] = func(ctx context.Context) *Failure {
			f := answer(status, "")(ctx)
			return &Failure{Refusal: RefusalOf(errors.Unwrap(f.Refusal))}
		}
		if _, refusal := s.connect(t.Context(), "10.96.0.1:80"); refusal == nil || refusal.Reason != ReasonDenied || len(s.dialled) != 1 || len(s.health.ejected) != 0 {
			t.Errorf("status %d: %v, dialled %v, passed over %v", status, refusal, s.dialled, s.health.ejected)
		}
	}
}
