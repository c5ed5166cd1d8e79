// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"
)

// A pod that no session can be made to is tried once until its time is over, by one stream, and the others are spread over the rest as if it were not there. The gateway gives it whenever it is
// free to choose among those that it is to avoid, for it carries the fewest.
func TestPoolPassesOverPodsOutOfReach(t *testing.T) {
	for name, harm := range map[string]func(*standIn){"it breaks off": func(p *standIn) { p.broken = true }, "it says nothing": func(p *standIn) { p.frozen = true }} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 3)
			now := s.clock()
			s.set(func() { harm(s.pods[1]) })
			hits := map[string]int{}
			for range 30 {
				hits[s.call(nil)]++
			}
			if hits["pod-0"] < 14 || hits["pod-2"] < 14 || s.handshakes() != 3 {
				t.Errorf("%v of 30, %d sessions were tried", hits, s.handshakes())
			}
			// Each time that it may be back, one finds out.
			for round := range 4 {
				now.pass(2 * firstOut << round)
				before := s.handshakes()
				for range 10 {
					s.call(nil)
				}
				if n := s.handshakes() - before; n != 1 {
					t.Errorf("round %d: it was tried %d times", round, n)
				}
			}
			s.set(func() { s.pods[1].broken, s.pods[1].frozen = false, false })
			now.pass(2 * lastOut)
			before := s.handshakes()
			for range 10 {
				s.call(nil)
			}
			if s.sessions() != 3 || s.handshakes() != before+1 {
				t.Errorf("it is back: %d sessions, %d were tried", s.sessions(), s.handshakes()-before)
			}
		})
	}
}

// A gateway need not say how many pods it has: that it gives one that it was asked to avoid says enough.
func TestPoolBelievesAGatewayThatDoesNotCount(t *testing.T) {
	s := newStage(t, 3)
	s.set(func() { s.pods[1].broken = true })
	uncounted := func(r *Request) {
		dial := r.Dial
		r.Dial = func(ctx context.Context, wish Wish) (Session, error) {
			made, err := dial(ctx, wish)
			if broken, ok := errors.AsType[*PodError](err); ok {
				broken.Ready = 0
			}
			made.Ready = 0
			return made, err
		}
	}
	for range 30 {
		s.call(uncounted)
	}
	if s.sessions() != 2 || s.handshakes() > 4 {
		t.Errorf("%d sessions, %d were tried", s.sessions(), s.handshakes())
	}
}

// Where those that are reached are full, another session goes to one of them, and not to the pod that nobody can reach.
func TestPoolFillsUpBesideAPodOutOfReach(t *testing.T) {
	s := newStage(t, 2)
	s.set(func() { s.pods[1].broken = true })
	for range maxStreams + 1 {
		stream, err := s.open(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeStream(stream)
	}
	if s.sessions() != 2 || s.handshakes() != 3 {
		t.Errorf("%d sessions, %d were tried", s.sessions(), s.handshakes())
	}
}

// TestPoolAsksOnceForNews: discovery tells of one more pod, and that is out of reach. The question was answered all the same.
func TestPoolAsksOnceForNews(t *testing.T) {
	s := newStage(t, 2)
	for range 10 {
		s.call(nil)
	}
	s.set(func() { s.pods = append(s.pods, &standIn{name: "pod-2", broken: true}) })
	for range 10 {
		s.call(func(r *Request) { r.Capacity = 3 })
	}
	if s.sessions() != 2 || s.handshakes() != 3 {
		t.Errorf("%d sessions, %d were tried", s.sessions(), s.handshakes())
	}
}

// What is known of a pod that is out of reach keeps nobody from those that come in its place.
func TestPoolFindsWhoReplacesAPodOutOfReach(t *testing.T) {
	s := newStage(t, 3)
	s.set(func() { s.pods[1].broken = true })
	for range 10 {
		s.call(nil)
	}
	s.set(func() {
		s.pods[1].gone = true
		s.pods = append(s.pods, &standIn{name: "pod-3"}, &standIn{name: "pod-4"})
	})
	for range 10 {
		s.call(func(r *Request) { r.Capacity = 4 })
	}
	if s.sessions() != 4 {
		t.Errorf("%d of 4 pods are reached", s.sessions())
	}
}

// A pod whose proxy lives, and whose application neither takes a connection nor refuses it, costs one stream a part of its time, and what runs there goes on.
func TestPoolLeavesPodsThatTakeTooLong(t *testing.T) {
	s := newStage(t, 3)
	var held []*Stream
	for range 3 {
		stream, err := s.open(nil)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, stream)
	}
	s.set(func() { s.pods[1].hangs = true })
	began := time.Now()
	for range 20 {
		if name := s.call(nil); name == "pod-1" {
			t.Fatal("reached the one that hangs")
		}
	}
	if n, took := s.pods[1].hits, time.Since(began); n != 2 || took >= 2*podPatience { // one of them is held
		t.Errorf("it was asked %d times, and all took %v", n, took)
	}
	if s.sessions() != 3 {
		t.Errorf("%d sessions", s.sessions())
	}
	for _, stream := range held {
		closeStream(stream)
	}
}

// The only pod has all the time that there is.
func TestPoolWaitsForTheOnlyPod(t *testing.T) {
	s := newStage(t, 1)
	s.call(nil)
	s.set(func() { s.pods[0].hangs = true })
	r := s.request("cart.shop.svc.cluster.local:80")
	ctx, cancel := context.WithTimeout(t.Context(), podPatience+200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.pool.Open(ctx, key(r.Authority), r); err == nil || time.Since(began) < podPatience {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if s.pods[0].hits != 2 {
		t.Errorf("it was asked %d times", s.pods[0].hits)
	}
}

// Of changes that discovery does not tell a set learns in time, as long as somebody asks for it.
func TestPoolAsksAgain(t *testing.T) {
	s := newStage(t, 2)
	now := s.clock()
	hits := map[string]int{}
	minute := func() {
		for range 60 {
			now.pass(time.Second)
			hits[s.call(nil)]++
		}
	}
	minute()
	s.set(func() { s.pods = append(s.pods, &standIn{name: "pod-2"}) })
	for range 6 {
		minute()
	}
	if hits["pod-2"] == 0 || s.handshakes() != 3 {
		t.Errorf("%v, after %d sessions", hits, s.handshakes())
	}
	for range 11 {
		minute()
	}
	if n := s.handshakes(); n < 4 || n > 6 || s.sessions() != 3 {
		t.Errorf("%d sessions were made in 18 minutes, %d are kept", n, s.sessions())
	}
}

// Who fails in a session of its own does not wait for a goodbye before something else is tried.
func TestPoolWaitsForNoGoodbye(t *testing.T) {
	s := newStage(t, 1)
	s.mute = true
	s.pods[0].status = http.StatusServiceUnavailable
	s.pods[0].silent.Store(true)
	s.probe = 50 * time.Millisecond
	began := time.Now()
	if _, err := s.open(nil); err == nil {
		t.Fatal("it was let in")
	}
	if took := time.Since(began); took > farewell/2 {
		t.Errorf("that took %v", took)
	}
	if !slices.Equal(s.asked, []string{""}) {
		t.Errorf("asked %q", s.asked)
	}
}
