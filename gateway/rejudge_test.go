// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// stuck is a log that waits where a policy in dry run is told of, so that a judgement takes as long as a test wants.
type stuck struct {
	slog.Handler
	hold atomic.Bool
	held atomic.Int32
	free chan struct{}
}

// Handle waits before it takes the handler's lock, which is everybody's.
func (s *stuck) Handle(ctx context.Context, r slog.Record) error {
	if s.hold.Load() && strings.Contains(r.Message, "policies in dry run") {
		s.held.Add(1)
		<-s.free
	}
	return s.Handler.Handle(ctx, r)
}

// Whoever takes in configuration is not held up by streams that take long to judge, and what they are judged by in the end is what holds in the end.
func TestConfigurationDoesNotWaitForStreams(t *testing.T) {
	log := &stuck{Handler: slog.NewJSONHandler(io.Discard, nil), free: make(chan struct{})}
	s := newScene(t, func(o *Options) { o.Log = logr.FromSlogHandler(log) })
	free := sync.OnceFunc(func() { close(log.free) })
	t.Cleanup(free)
	s.guards(nil, nil)
	w := s.echoPod(1)
	s.add(w)
	st := s.open(s.outer(15008, clientID))
	if err := echo(st, "before"); err != nil {
		t.Fatal(err)
	}
	log.hold.Store(true)
	denied := policyOn("d", mesh.Deny, principal(clientID))
	s.guards(nil, guard(cartKey, dryRun(policyOn("d", mesh.Deny, principal(clientID)))))
	s.until("the stream is judged", func() bool { return log.held.Load() == 1 })
	s.guards(nil, guard(tillKey, denied)) // and this is applied at once
	s.guards(nil, guard(cartKey, denied))
	free()
	s.until("the stream has ended", func() bool { return s.counted("isthmus_gateway_streams_closed_total", ReasonRevoked) == 1 })
}

// A configuration whose policies for a stream are those of before does not have it judged anew, by whatever else it differs.
func TestStreamsAreJudgedByWhatChanged(t *testing.T) {
	s := newGuarded(t, nil, nil)
	guards := func(more ...mesh.ServicePolicies) []mesh.ServicePolicies {
		return append(guard(cartKey, dryRun(policyOn("d", mesh.Deny, principal(clientID)))), more...)
	}
	s.guards(nil, guards())
	st := s.open(s.outer(15008, clientID))
	if err := echo(st, "x"); err != nil {
		t.Fatal(err)
	}
	judged := func(want float64, when string) {
		t.Helper()
		if n := s.count("isthmus_gateway_policy_dry_run_total"); n != want {
			t.Errorf("%s: judged %v times, want %v", when, n, want)
		}
	}
	judged(1, "when it came")
	for i := range 3 {
		other := s.open(s.outer(15008, thiefID))
		tills, _, err := s.outer(15008, thiefID).Open(t.Context(), tillKey.Hostname+":80", nil)
		if err != nil {
			t.Fatal(err)
		}
		s.guards(nil, guards(guard(tillKey, policyOn(fmt.Sprint("d", i), mesh.Deny, principal(thiefID)))...))
		s.until("what is denied has ended", func() bool { return s.counted("isthmus_gateway_streams_closed_total", ReasonRevoked) == float64(i+1) })
		tills.Close()
		other.Close()
		s.guards(nil, guards())
	}
	judged(1, "after changes of others")
	s.guards(nil, guards()[:0])
	s.guards([]*mesh.Policy{dryRun(policyOn("e", mesh.Deny, principal(clientID)))}, nil)
	s.until("it is judged again", func() bool { return s.count("isthmus_gateway_policy_dry_run_total") == 2 })
}

// However requests to open streams and changes of policies meet, none is left running that the last policies deny.
func TestNoStreamSlipsBetweenPolicies(t *testing.T) {
	s := newGuarded(t, nil, nil)
	deny := guard(cartKey, policyOn("d", mesh.Deny, principal(thiefID)))
	outer := s.outer(15008, thiefID)
	for range 20 {
		s.guards(nil, nil)
		stop, begun := make(chan struct{}), make(chan struct{}, 1)
		var openers sync.WaitGroup
		for range 4 {
			openers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, _, err := outer.Open(t.Context(), authority, nil); err == nil { // left open: who may not have it is to lose it
						select {
						case begun <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		<-begun
		s.guards(nil, deny)
		close(stop)
		openers.Wait()
		s.until("all have ended", func() bool { return s.count("isthmus_gateway_streams") == 0 })
	}
}

// What policies in dry run would do to a stream is told once, however often it is judged, until they would do something else.
func TestDryRunIsToldOnce(t *testing.T) {
	s := newGuarded(t, nil, nil)
	guards := func(name string, denied ...*mesh.Policy) []mesh.ServicePolicies {
		return guard(cartKey, append(denied, dryRun(policyOn(name, mesh.Deny, principal(clientID))))...)
	}
	told := func(want int, when string) {
		t.Helper()
		if n := strings.Count(s.logs.text(), "policies in dry run"); n != want || s.count("isthmus_gateway_policy_dry_run_total") != float64(want) {
			t.Errorf("%s: told %d times, counted %v, want %d", when, n, s.count("isthmus_gateway_policy_dry_run_total"), want)
		}
	}
	s.guards(nil, guards("d"))
	st := s.open(s.outer(15008, clientID))
	if err := echo(st, "x"); err != nil {
		t.Fatal(err)
	}
	told(1, "when it came")
	for i := range 3 { // the end of the next round's thief says that the round before is over
		s.open(s.outer(15008, thiefID))
		s.guards(nil, guards("d", policyOn(fmt.Sprint("thieves", i), mesh.Deny, principal(thiefID))))
		s.until("the thief's stream has ended", func() bool { return s.counted("isthmus_gateway_streams_closed_total", ReasonRevoked) == float64(i+1) })
		s.guards(nil, guards("d"))
	}
	told(1, "after changes that change nothing for it")
	s.guards(nil, guards("e"))
	s.until("another policy is told of", func() bool { return s.count("isthmus_gateway_policy_dry_run_total") == 2 })
	s.guards(nil, nil)
	s.guards(nil, guards("f")) // which follows e or nothing, as the judge has it
	s.until("and another one", func() bool { return s.count("isthmus_gateway_policy_dry_run_total") == 3 })
	told(3, "at the end")
	if err := echo(st, "y"); err != nil {
		t.Errorf("a policy in dry run has ended the stream: %v", err)
	}
}
