// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
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
	return held
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
	later.pass(idleAfter)
	s.pool.sweep()
	if n := s.sessions(); n != 0 {
		t.Errorf("%d idle sessions are kept", n)
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
				if stream.Pod != "pod-0" && name != "it reaches another pod" {
					t.Errorf("%s was reached", stream.Pod)
				}
				s.soon("no lane is being opened", func() bool {
					s.pool.mu.Lock()
					defer s.pool.mu.Unlock()
					return s.pool.sets[key("cart.shop.svc.cluster.local:80")].widening == 0
				})
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
			// Once more for each pod, of which two are reached by then if one lane led to the other.
			if n := tried(); n != 1+len(s.reached()) {
				t.Errorf("after some time, %d times", n)
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
