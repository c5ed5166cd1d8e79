// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

// hold opens streams one after another, each when what the one before it led to is there, and leaves them open.
func (s *stage) hold(streams int) (held []*Stream) {
	s.t.Helper()
	for range streams {
		stream, err := s.open(nil)
		if err != nil {
			s.t.Fatal(err)
		}
		held = append(held, stream)
		s.wide()
	}
	return held
}

// wide waits until no lane is being opened.
func (s *stage) wide() {
	s.t.Helper()
	s.soon("no lane is being opened", func() bool {
		s.pool.mu.Lock()
		defer s.pool.mu.Unlock()
		for _, t := range s.pool.sets {
			if t.widening > 0 {
				return false
			}
		}
		return true
	})
}

// reached are the pods that there are sessions to.
func (s *stage) reached() map[string][]int {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	lanes := map[string][]int{}
	for _, t := range s.pool.sets {
		for name, p := range t.pods {
			for _, one := range p.sessions {
				lanes[name] = append(lanes[name], one.lane)
			}
			slices.Sort(lanes[name])
		}
	}
	return lanes
}

// carried is how many streams each session carries, in order.
func (s *stage) carried() (out []int) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for _, t := range s.pool.sets {
		for _, p := range t.pods {
			for _, one := range p.sessions {
				out = append(out, one.streams)
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestPoolSpreadsStreamsOverLanes(t *testing.T) {
	s := newStage(t, 1)
	s.lanes = 3
	held := s.hold(1)
	if n := s.sessions(); n != 1 {
		t.Errorf("%d sessions for one stream", n)
	}
	held = append(held, s.hold(6)...)
	// The second one found the first lane taken, and so did the third one both: it and the fourth one share with them.
	if got := s.carried(); !slices.Equal(got, []int{2, 2, 3}) {
		t.Errorf("the sessions carry %v", got)
	}
	if !slices.Equal(s.ways, []int{0, 1, 2}) {
		t.Errorf("lanes %v were asked for", s.ways)
	}
	for _, stream := range held {
		closeStream(stream)
	}
	// They stay for what comes next: a long line is where a handshake takes long.
	if n := s.sessions(); n != 3 {
		t.Errorf("%d sessions are left", n)
	}
	later := s.clock()
	later.pass(laneIdle)
	s.pool.sweep()
	if n := s.sessions(); n != 1 {
		t.Errorf("%d idle sessions are kept after %v", n, laneIdle)
	}
	later.pass(idleAfter)
	s.pool.sweep()
	if n := s.sessions(); n != 0 {
		t.Errorf("%d idle sessions are kept after %v", n, idleAfter)
	}
}

// One lane to each pod is opened through the gateway by naming all the others.
func TestPoolOpensLanesToThePodsThatItReaches(t *testing.T) {
	s := newStage(t, 3)
	s.lanes = 2
	s.hold(9)
	if got := s.carried(); !slices.Equal(got, []int{1, 1, 1, 2, 2, 2}) {
		t.Errorf("the sessions carry %v", got)
	}
	for name, lanes := range s.reached() {
		if !slices.Equal(lanes, []int{0, 1}) {
			t.Errorf("%s is reached in lanes %v", name, lanes)
		}
	}
}

// A lane that cannot be opened costs no stream anything, and is not tried for each.
func TestPoolDoesWithoutLanes(t *testing.T) {
	for name, dial := range map[string]func(*stage) (Session, error){
		"there is no way":              func(*stage) (Session, error) { return Session{}, errors.New("no route") },
		"the pod does not shake hands": func(s *stage) (Session, error) { return Session{}, &PodError{Pod: "pod-0", Err: errors.New("no")} },
		"it reaches another pod": func(s *stage) (Session, error) {
			return s.dial(s.t.Context(), Wish{Avoid: "pod-0"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 2)
			s.set(func() { s.lanes, s.pods[1].gone = 4, true })
			s.call(nil)
			s.set(func() { s.pods[1].gone = false })
			later, lanes := s.clock(), 0
			open := func() {
				stream, err := s.open(func(r *Request) {
					usual := r.Dial
					r.Dial = func(ctx context.Context, wish Wish) (Session, error) {
						if wish.Lane == 0 {
							return usual(ctx, wish)
						}
						s.set(func() { lanes++ })
						return dial(s)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if stream.Pod != "pod-0" {
					t.Errorf("%s was reached", stream.Pod)
				}
				s.wide()
				t.Cleanup(func() { closeStream(stream) })
			}
			for range 4 {
				open()
			}
			tried := func() (n int) { s.set(func() { n = lanes }); return n }
			if n := tried(); n != 1 {
				t.Errorf("a lane was tried %d times", n)
			}
			later.pass(laneAgain)
			for range 4 {
				open()
			}
			if n := tried(); n != 2 || s.sessions() != 1 {
				t.Errorf("after some time, %d times; %d sessions", n, s.sessions())
			}
		})
	}
}

// Whoever ends a pool does not wait for lanes that nobody waits for.
func TestPoolClosesBesideALane(t *testing.T) {
	s := newStage(t, 1)
	s.lanes = 2
	s.hold(1)
	began := make(chan struct{})
	stream, err := s.open(func(r *Request) {
		r.Dial = func(ctx context.Context, _ Wish) (Session, error) {
			close(began)
			<-ctx.Done()
			return Session{}, ctx.Err()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Done()
	<-began
	closed := make(chan struct{})
	go func() { s.pool.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(laneTime / 2):
		t.Error("it waits for the lane")
	}
}

// A lane whose outer connection is silent costs a stream a little time; neither the pod nor the gateway is blamed for it, to which the other lanes lead.
func TestPoolLeavesASilentLane(t *testing.T) {
	s := newStage(t, 1)
	s.lanes, s.probe = 2, 100*time.Millisecond
	var cut atomic.Bool
	silent := func(r *Request) {
		usual := r.Dial
		r.Dial = func(ctx context.Context, wish Wish) (Session, error) {
			made, err := usual(ctx, wish)
			if err != nil || wish.Lane == 0 {
				return made, err
			}
			made.Conn.Close()
			near, far := net.Pipe()
			go s.serve(s.pods[0], hbone.NewServer(far, hbone.Settings{}))
			made.Conn, err = hbone.NewClient(&line{near, &cut}, hbone.Settings{ProbeAfter: s.probe, ProbeTimeout: s.probe})
			made.Carrier = func(context.Context) error { return errors.New("nothing is heard of the gateway") }
			return made, err
		}
	}
	open := func() {
		t.Helper()
		stream, err := s.open(silent)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeStream(stream) })
		s.wide()
	}
	open()
	open()
	if lanes := s.reached()["pod-0"]; !slices.Equal(lanes, []int{0, 1}) {
		t.Fatalf("lanes %v", lanes)
	}
	cut.Store(true)
	open() // the lane that carries nothing is chosen
	if lanes := s.reached()["pod-0"]; !slices.Contains(lanes, 0) {
		t.Errorf("lanes %v are left", lanes)
	}
	s.set(func() {
		if want := []string{"1: nothing is heard of the gateway"}; !slices.Equal(s.cuts, want) {
			t.Errorf("told of as cut are %q, want %q", s.cuts, want)
		}
	})
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for _, set := range s.pool.sets {
		if p := set.pods["pod-0"]; p.fails != 0 {
			t.Errorf("the pod counts as failed %d times", p.fails)
		}
	}
}

// Where all lanes are silent it is the gateway that is: that is said at once, and not tried in one lane after another.
func TestPoolKnowsASilentGatewayFromASilentLane(t *testing.T) {
	s := newStage(t, 1)
	s.lanes, s.probe = 3, 100*time.Millisecond
	gone := errors.New("nothing is heard of the gateway")
	var asked atomic.Int32
	s.carrier = func(context.Context) error { asked.Add(1); return gone }
	s.hold(5)
	if n := s.sessions(); n != 3 {
		t.Fatalf("%d sessions", n)
	}
	s.pods[0].silent.Store(true)
	if stream, err := s.open(nil); !errors.Is(err, gone) {
		t.Errorf("a stream was opened: %v, %v", stream != nil, err)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("%d times it was asked what is wrong with a lane", n)
	}
	if len(s.cuts) > 0 {
		t.Errorf("told of as cut are %q", s.cuts)
	}
}

// With more pods than a gateway can be asked to avoid, or than are reached, a lane would lead to one of the others.
func TestPoolOpensNoLanesAmongTooManyPods(t *testing.T) {
	s := newStage(t, maxPods+10)
	s.lanes = 4
	s.hold(2 * maxPods)
	if n := len(s.reached()); n != maxPods || s.sessions() != maxPods {
		t.Errorf("%d pods are reached by %d sessions", n, s.sessions())
	}
}

// A pod that is replaced by another one is left as soon as without lanes: what a lane's opening is answered is no answer to whether there are others.
func TestPoolAsksForPodsBesideLanes(t *testing.T) {
	left := func(lanes int) int {
		s := newStage(t, 3)
		s.lanes = lanes
		s.set(func() { s.pods[2].gone = true })
		clock := s.clock()
		s.hold(2)
		s.set(func() { s.pods[0].gone, s.pods[2].gone = true, false })
		for round := range 60 {
			if _, there := s.reached()["pod-0"]; !there {
				return round
			}
			clock.pass(laneAgain + time.Second)
			s.hold(6)
		}
		t.Fatalf("with %d lanes a pod that is gone is still given streams", lanes)
		return 0
	}
	if alone, beside := left(1), left(4); beside > alone {
		t.Errorf("it is left after %d rounds, without lanes after %d", beside, alone)
	}
}

// Lanes leave room for pods that are not reached yet.
func TestPoolKeepsRoomBesideLanes(t *testing.T) {
	s := newStage(t, 60)
	s.lanes = 4
	for _, authority := range []string{"a:80", "b:80", "c:80", "d:80", "e:80"} {
		for range 60 * 5 {
			if _, err := s.open(func(r *Request) { r.Authority = authority }); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.wide()
	before := s.handshakes()
	for range 200 {
		s.call(func(r *Request) { r.Authority = "f:80" })
	}
	if n := s.handshakes() - before; n > 60 {
		t.Errorf("%d sessions were opened for another service of 60 pods", n)
	}
}

// However many streams come at once, and share sessions of the first lane, the others come.
func TestPoolOpensLanesAfterABurst(t *testing.T) {
	s := newStage(t, 1)
	s.lanes = 4
	block := make(chan struct{})
	s.set(func() { s.block = block })
	opened := make(chan error)
	for range 401 {
		go func() { _, err := s.open(nil); opened <- err }()
	}
	s.set(func() { s.block = nil })
	close(block)
	for range 401 {
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
	}
	s.wide()
	if got := slices.Compact(s.reached()["pod-0"]); !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Errorf("lanes %v", got)
	}
}
