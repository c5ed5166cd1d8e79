// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Ten pods, ten sessions, and each pod has as many of the connections as the others.
func TestPoolSpreadsWithFewSessions(t *testing.T) {
	s := newStage(t, 10)
	hits := map[string]int{}
	for range 1000 {
		hits[s.call(nil)]++
	}
	for name, n := range hits {
		if n != 100 {
			t.Errorf("%s got %d of 1000", name, n)
		}
	}
	if len(hits) != 10 || s.handshakes() != 10 {
		t.Errorf("%d pods, %d sessions", len(hits), s.handshakes())
	}
	if !slices.Contains(s.asked, "pod-0,pod-1") {
		t.Errorf("asked to avoid %q", s.asked)
	}
}

// Pods carry different numbers of connections that stay, as they do after some have come and gone. Those that come and go are spread all the same: if only what runs
// counted, all of them would go to one pod.
func TestPoolSpreadsShortStreamsBesideLongOnes(t *testing.T) {
	s := newStage(t, 3)
	now := s.clock()
	long := map[string]int{}
	for range 9 {
		stream, err := s.open(nil)
		if err != nil {
			t.Fatal(err)
		}
		if stream.Pod == "pod-0" && long["pod-0"] == 1 {
			closeStream(stream)
			continue
		}
		long[stream.Pod]++
		t.Cleanup(func() { closeStream(stream) })
	}
	hits := map[string]int{}
	for range 600 {
		now.pass(time.Second / 30)
		hits[s.call(nil)]++
	}
	for name, n := range hits {
		if n < 160 || n > 240 {
			t.Errorf("%s, which carries %d long streams, got %d of 600 short ones", name, long[name], n)
		}
	}
	if len(hits) != 3 || long["pod-0"] != 1 {
		t.Errorf("%v beside %v", hits, long)
	}
}

// A pod that joins others gets a tenth of what they have at first, and its whole share after half a minute, of streams that stay as of those that do not.
func TestPoolWarmsPodsUp(t *testing.T) {
	s := newStage(t, 2)
	now := s.clock()
	capacity := uint32(2)
	told := func(r *Request) { r.Capacity = capacity }
	load := map[string]int{}
	stay := func(n int) {
		t.Helper()
		for range n {
			stream, err := s.open(told)
			if err != nil {
				t.Fatal(err)
			}
			load[stream.Pod]++
			t.Cleanup(func() { closeStream(stream) })
		}
	}
	stay(80)
	now.pass(time.Minute)
	s.set(func() { s.pods = append(s.pods, &standIn{name: "pod-2"}) })
	capacity = 3
	stay(10)
	if load["pod-2"] < 2 || load["pod-2"] > 6 {
		t.Errorf("at first %v", load)
	}
	now.pass(warmUp / 2)
	stay(20)
	if load["pod-2"] < 12 || load["pod-2"] > 24 {
		t.Errorf("half warm: %v", load)
	}
	now.pass(warmUp)
	stay(43)
	if load["pod-2"] < 36 || load["pod-2"] > 55 {
		t.Errorf("warm: %v", load)
	}

	short := newStage(t, 2)
	now = short.clock()
	capacity = 2
	hits := map[string]int{}
	second := func() {
		for range 30 {
			now.pass(time.Second / 30)
			hits[short.call(told)]++
		}
	}
	for range 60 {
		second()
	}
	short.set(func() { short.pods = append(short.pods, &standIn{name: "pod-2"}) })
	capacity = 3
	for _, step := range []struct{ after, least, most int }{{3, 5, 20}, {12, 60, 130}, {20, 160, 220}} {
		clear(hits)
		for range step.after {
			second()
		}
		if n := hits["pod-2"]; n < step.least || n > step.most {
			t.Errorf("within %d s more: %v", step.after, hits)
		}
	}
}

// Connections that come at once, and stay, are spread too: those that come while sessions are being opened wait for them.
func TestPoolSpreadsABurst(t *testing.T) {
	s := newStage(t, 5)
	load := map[string]int{}
	s.burst(200, load)()
	evenOf200(t, load)
	if n := s.handshakes(); n > 10 {
		t.Errorf("%d sessions", n)
	}
}

// burst opens streams together, which stay until the test ends. What it returns waits for them, and counts those of each pod.
func (s *stage) burst(n int, load map[string]int) (wait func()) {
	var all sync.WaitGroup
	streams := make(chan *Stream, n)
	for range n {
		all.Go(func() {
			stream, err := s.open(nil)
			if err != nil {
				s.t.Error(err)
				return
			}
			streams <- stream
		})
	}
	return func() {
		all.Wait()
		close(streams)
		for stream := range streams {
			load[stream.Pod]++
			s.t.Cleanup(func() { closeStream(stream) })
		}
	}
}

// evenOf200 checks that five pods carry 200 streams about evenly.
func evenOf200(t *testing.T, load map[string]int) {
	t.Helper()
	for name, n := range load {
		if n < 30 || n > 50 {
			t.Errorf("%s carries %d of 200", name, n)
		}
	}
	if len(load) != 5 {
		t.Errorf("%d pods are reached", len(load))
	}
}

// A pod whose session takes long to open is not given the burst of streams that comes meanwhile: those that wait for it came lately, too.
func TestPoolSpreadsABurstWhileAPodIsSlow(t *testing.T) {
	s := newStage(t, 5)
	load := map[string]int{}
	for range 4 {
		s.burst(1, load)() // each reaches another pod
	}
	slow := make(chan struct{})
	s.set(func() { s.block = slow })
	wait := s.burst(196, load)
	s.soon("all have a place", func() bool {
		s.pool.mu.Lock()
		defer s.pool.mu.Unlock()
		n := 0
		for _, set := range s.pool.sets {
			for _, p := range set.pods {
				carried, _ := p.load()
				n += carried
			}
			for _, o := range set.opening {
				n += o.streams
			}
		}
		return n == 200
	})
	close(slow)
	wait()
	evenOf200(t, load)
}

func TestPoolNeverMixesServices(t *testing.T) {
	s := newStage(t, 2)
	for i := range 40 {
		name := []string{"cart.shop.svc.cluster.local:80", "pay.shop.svc.cluster.local:80", "cart.shop.svc.cluster.local:81"}[i%3]
		s.call(func(r *Request) { r.Authority = name }) // which checks what it reached
	}
	if n := s.handshakes(); n != 6 {
		t.Errorf("%d sessions for three of two pods", n)
	}
}

// What the session has proved must be expected when the stream opens, not when the session did.
func TestPoolDemandsIdentitiesOfNow(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Request)
	}{
		{"the service's identities changed", func(r *Request) { r.Last = []mesh.Identity{otherID} }},
		{"it has none", func(r *Request) { r.Last = nil }},
		{"the gateway's changed", func(r *Request) { r.Next = []mesh.Identity{otherID} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t, 1)
			held, err := s.open(nil)
			if err != nil {
				t.Fatal(err)
			}
			before := s.handshakes()
			r := s.request("cart.shop.svc.cluster.local:80")
			tc.change(&r)
			r.Dial = func(context.Context, Wish) (Session, error) {
				return Session{}, errors.New("the handshake would fail")
			}
			if stream, err := s.pool.Open(t.Context(), key(r.Authority), r); err == nil {
				stream.Done()
				t.Error("a session was used that proved something else")
			}
			if s.handshakes() != before || s.sessions() != 0 {
				t.Errorf("%d sessions are kept", s.sessions())
			}
			closeStream(held) // what runs goes on to its end
		})
	}
	// More identities than before are no reason to begin anew.
	s := newStage(t, 1)
	s.call(nil)
	s.call(func(r *Request) { r.Last = append(r.Last, otherID) })
	if n := s.handshakes(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestPoolLeavesOldSessions(t *testing.T) {
	for _, tc := range []struct {
		name string
		age  func(*stage)
	}{
		{"its outer connection drains", func(s *stage) { s.set(func() { s.old = true }) }},
		{"the certificates end", func(s *stage) {
			s.pool.mu.Lock()
			defer s.pool.mu.Unlock()
			s.pool.now = func() time.Time { return s.until }
		}},
		{"the pod says goodbye", func(s *stage) {
			s.pods[0].conns[0].Drain()
			s.soon("the session is left", func() bool { return s.pool.leaving(key("cart.shop.svc.cluster.local:80")) })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t, 1)
			held, err := s.open(nil)
			if err != nil {
				t.Fatal(err)
			}
			tc.age(s)
			s.set(func() { s.until = s.until.Add(time.Hour) })
			second, err := s.open(nil)
			if err != nil || s.handshakes() != 2 {
				t.Fatalf("%d sessions, %v", s.handshakes(), err)
			}
			for _, stream := range []*Stream{held, second} {
				closeStream(stream)
			}
			s.soon("the old session has ended", func() bool { s.pool.mu.Lock(); defer s.pool.mu.Unlock(); return len(s.pool.all) <= 1 })
		})
	}
}

// leaving says that all sessions of a key take no more streams.
func (p *Pool) leaving(k Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pod := range p.sets[k].pods {
		for _, s := range pod.sessions {
			if !s.Conn.Draining() {
				return false
			}
		}
	}
	return true
}

func TestPoolFollowsThePods(t *testing.T) {
	s := newStage(t, 2)
	calls := func(n int, change func(*Request)) map[string]int {
		hits := map[string]int{}
		for range n {
			hits[s.call(change)]++
		}
		return hits
	}
	if hits := calls(20, nil); hits["pod-0"] != 10 || hits["pod-1"] != 10 {
		t.Fatalf("at first %v", hits)
	}
	// It grows when discovery tells of more.
	s.set(func() { s.pods = append(s.pods, &standIn{name: "pod-2"}, &standIn{name: "pod-3"}) })
	if hits := calls(20, nil); len(hits) != 2 || s.handshakes() != 2 {
		t.Errorf("nobody said that there are more: %v", hits)
	}
	four := func(r *Request) { r.Capacity = 4 }
	if hits := calls(40, four); len(hits) != 4 || hits["pod-0"] < 9 || hits["pod-3"] < 9 || s.handshakes() != 4 {
		t.Errorf("grown to four: %v, %d sessions", hits, s.handshakes())
	}
	// It shrinks when one is not ready any more, although that pod says nothing.
	s.set(func() { s.pods[1].gone = true })
	three := func(r *Request) { r.Capacity = 3 }
	calls(1, three)
	if hits := calls(30, three); len(hits) != 3 || hits["pod-1"] != 0 || s.sessions() != 3 {
		t.Errorf("shrunk to three: %v, %d sessions", hits, s.sessions())
	}
	// One leaves without a word, another one comes in its place.
	s.set(func() { s.pods[0].gone = true; s.pods = append(s.pods, &standIn{name: "pod-4"}) })
	for _, c := range s.pods[0].conns {
		c.Close()
	}
	s.soon("its session is noticed", func() bool { return s.sessions() == 2 })
	if hits := calls(30, three); len(hits) != 3 || hits["pod-4"] < 9 {
		t.Errorf("replaced: %v", hits)
	}
}

func TestPoolTriesOtherPods(t *testing.T) {
	for _, tc := range []struct {
		name string
		harm func(*standIn)
	}{
		{"its application is away", func(p *standIn) { p.status = http.StatusServiceUnavailable }},
		{"no session can be made", func(p *standIn) { p.broken = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t, 3)
			s.set(func() { tc.harm(s.pods[1]) })
			for range 20 {
				if name := s.call(nil); name == "pod-1" {
					t.Fatal("reached the broken one")
				}
			}
			if s.pods[1].hits > 1 || s.handshakes() > 5 {
				t.Errorf("the broken pod was asked %d times, %d sessions", s.pods[1].hits, s.handshakes())
			}
			// It comes back.
			s.set(func() { s.pods[1].status, s.pods[1].broken = 0, false })
			later := time.Now()
			advance := func(d time.Duration) {
				later = later.Add(d)
				now := later
				s.pool.mu.Lock()
				defer s.pool.mu.Unlock()
				s.pool.now = func() time.Time { return now }
			}
			advance(time.Minute)
			for range 3 {
				s.call(nil)
			}
			advance(2 * warmUp)
			hits := map[string]int{}
			for range 30 {
				hits[s.call(nil)]++
			}
			if hits["pod-1"] < 8 {
				t.Errorf("after it came back: %v", hits)
			}
		})
	}
}

// A pod that vanishes without a word costs one connection a moment, and the others nothing.
func TestPoolLeavesSilentPods(t *testing.T) {
	s := newStage(t, 3)
	s.probe = time.Second // those that are there answer within it, on a busy machine, too
	for range 6 {
		s.call(nil)
	}
	s.set(func() { s.pods[1].gone = true })
	s.pods[1].silent.Store(true)
	for range 20 {
		if name := s.call(nil); name == "pod-1" {
			t.Fatal("reached the silent one")
		}
	}
	if s.sessions() != 2 {
		t.Errorf("%d sessions", s.sessions())
	}
}

// If it is not the pod but what carries the session, the other sessions are not tried one after the other.
func TestPoolAsksTheCarrierOfASilentSession(t *testing.T) {
	for _, broken := range []error{nil, errors.New("gateway is silent")} {
		s := newStage(t, 3)
		s.probe = time.Second
		s.carrier = func(context.Context) error { return broken }
		for range 6 {
			s.call(nil)
		}
		s.pods[0].silent.Store(true)
		if broken != nil {
			s.pods[1].silent.Store(true)
			s.pods[2].silent.Store(true)
		}
		stream, err := s.open(nil)
		if !errors.Is(err, broken) {
			t.Errorf("with a carrier that says %v: %v", broken, err)
		}
		if broken != nil && s.sessions() != 2 {
			t.Errorf("%d of three sessions are left", s.sessions())
		}
		if stream != nil {
			closeStream(stream)
		}
	}
}

// The far end has judged who we are: others would say the same.
func TestPoolTakesNoForAnAnswer(t *testing.T) {
	s := newStage(t, 3)
	for _, p := range s.pods {
		p.status = http.StatusUnauthorized
	}
	_, err := s.open(nil)
	if refused, ok := errors.AsType[*hbone.RefusedError](err); !ok || refused.Status != http.StatusUnauthorized || s.handshakes() != 1 {
		t.Errorf("%v after %d sessions", err, s.handshakes())
	}
	if s.sessions() != 1 {
		t.Error("the session is blamed for a policy")
	}
}

// When all fail, the caller hears of it after a few: there are other gateways and networks.
func TestPoolGivesUp(t *testing.T) {
	s := newStage(t, 8)
	for _, p := range s.pods {
		p.status = http.StatusServiceUnavailable
	}
	_, err := s.open(nil)
	if refused, ok := errors.AsType[*hbone.RefusedError](err); !ok || refused.Status != http.StatusServiceUnavailable || s.handshakes() != maxTries {
		t.Errorf("%v after %d sessions", err, s.handshakes())
	}
	one := newStage(t, 1)
	one.pods[0].status = http.StatusServiceUnavailable
	if _, err := one.open(nil); err == nil || one.handshakes() != 1 || one.pods[0].hits != 1 {
		t.Errorf("%v after %d sessions, asked %d times", err, one.handshakes(), one.pods[0].hits)
	}
}

// A gateway that cannot open more does not take away what there is.
func TestPoolGoesOnWithWhatItHas(t *testing.T) {
	s := newStage(t, 4)
	if s.call(nil) == "" {
		t.Fatal("no pod")
	}
	s.set(func() { s.fail = errors.New("gateway is full") })
	for range 20 {
		s.call(nil)
	}
	if n := s.handshakes(); n > 3 {
		t.Errorf("asked %d times in a moment", n)
	}
}

// A gateway of somebody else: a session each, and nobody waits for anybody.
func TestPoolFallsBack(t *testing.T) {
	s := newStage(t, 3)
	s.mute = true
	for range 10 {
		s.call(nil)
	}
	if s.handshakes() != 10 || s.sessions() != 0 {
		t.Errorf("%d sessions for 10 connections, %d kept", s.handshakes(), s.sessions())
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { s.call(nil) })
	}
	all.Wait()
	if s.handshakes() != 60 {
		t.Errorf("%d sessions for 60 connections", s.handshakes())
	}
	// It learns to name pods.
	s.set(func() { s.mute = false })
	for range 30 {
		s.call(nil)
	}
	if n := s.handshakes(); n != 63 || s.sessions() != 3 {
		t.Errorf("%d sessions, %d kept", n, s.sessions())
	}
}

// Who opens a session may give up; who waits for it does not suffer.
func TestPoolOutlivesWhoOpens(t *testing.T) {
	s := newStage(t, 1)
	s.block = make(chan struct{})
	impatient, cancel := context.WithCancel(t.Context())
	r := s.request("cart.shop.svc.cluster.local:80")
	gaveUp := make(chan error, 1)
	go func() {
		_, err := s.pool.Open(impatient, key(r.Authority), r)
		gaveUp <- err
	}()
	s.soon("one is dialling", func() bool { return s.handshakes() == 1 })
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { s.call(nil) })
	}
	s.soon("the others wait", func() bool {
		s.pool.mu.Lock()
		defer s.pool.mu.Unlock()
		t := s.pool.sets[key(r.Authority)]
		return len(t.opening) == 1 && t.opening[0].streams == 6
	})
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(s.block)
	all.Wait()
	if s.handshakes() != 2 {
		t.Errorf("%d sessions", s.handshakes())
	}
}

func TestPoolBoundsStreams(t *testing.T) {
	s := newStage(t, 1)
	for range 2*maxStreams + 1 {
		stream, err := s.open(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeStream(stream)
	}
	if n := s.sessions(); n != 3 {
		t.Errorf("%d sessions", n)
	}
}

func TestPoolLetsIdleSessionsGo(t *testing.T) {
	s := newStage(t, 2)
	held, err := s.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.call(nil)
	later := s.clock()
	later.pass(idleAfter)
	s.pool.sweep()
	if s.sessions() != 1 {
		t.Errorf("%d sessions, one of which carries a stream", s.sessions())
	}
	closeStream(held)
	later.pass(idleAfter)
	s.pool.sweep()
	later.pass(2 * lastOut)
	s.pool.sweep()
	if len(s.pool.sets) != 0 || s.pool.total != 0 {
		t.Errorf("%d sets are remembered, %d sessions", len(s.pool.sets), s.pool.total)
	}
}

// TestPoolEndsWhatItsCarrierMustLetGo: a gateway that drains waits for its last stream, so a session that nobody uses any more must not keep it.
func TestPoolEndsWhatItsCarrierMustLetGo(t *testing.T) {
	s := newStage(t, 2)
	held, err := s.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.call(nil) // and that leaves the other pod's session without a stream
	s.mu.Lock()
	s.old = true
	s.mu.Unlock()
	s.pool.sweep()
	alive := func() int {
		s.pool.mu.Lock()
		defer s.pool.mu.Unlock()
		return len(s.pool.all)
	}
	if n := s.sessions(); n != 0 {
		t.Errorf("%d sessions take streams", n)
	}
	for _, left := range []int{1, 0} {
		for deadline := time.Now().Add(patience); alive() != left; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d sessions live, want %d", alive(), left)
			}
		}
		closeStream(held) // the one with the stream ends with that
	}
}

func TestPoolDrains(t *testing.T) {
	s := newStage(t, 2)
	held, err := s.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.call(nil)
	s.pool.Drain()
	if _, err := s.open(nil); !errors.Is(err, hbone.ErrDraining) {
		t.Error(err)
	}
	s.soon("the idle one has ended", func() bool { s.pool.mu.Lock(); defer s.pool.mu.Unlock(); return len(s.pool.all) == 1 })
	if _, err := held.Write([]byte("still here")); err != nil {
		t.Error(err)
	}
	closeStream(held)
	s.soon("all have ended", func() bool { s.pool.mu.Lock(); defer s.pool.mu.Unlock(); return len(s.pool.all) == 0 })
}

// Close ends also what was retired and still carries streams.
func TestPoolCloses(t *testing.T) {
	s := newStage(t, 1)
	held, err := s.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.old = true })
	if _, err := s.open(func(r *Request) {
		r.Dial = func(context.Context, Wish) (Session, error) { return Session{}, errors.New("no") }
	}); err == nil {
		t.Fatal("an outdated session was used")
	}
	s.pool.Close()
	if held.Conn().Err() == nil {
		t.Error("a session has outlived its pool")
	}
	held.Done()
}
