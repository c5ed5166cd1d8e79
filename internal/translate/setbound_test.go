// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestListenersOfSetsThatAreLookedAt: of one namespace they are those of the oldest sets, the others say so as a whole, and sets of other namespaces are served as before. One comes in
// as soon as an older one goes.
func TestListenersOfSetsThatAreLookedAt(t *testing.T) {
	const full = maxSetListeners / 64 // sets that are looked at
	set := func(namespace string, i, listeners int) *world.ListenerSet {
		of := &world.ListenerSet{Key: world.Key{Cluster: "east", Namespace: namespace, Name: fmt.Sprint("set", i)}, Created: int64(i + 1), Gateway: inDemo("gw")}
		for j := range listeners {
			l := hostNumbered(64 * 100) // which is one's alone, so that there is room for all who are served
			if j == 0 {
				l = hostNumbered(64 * i)
			}
			l.Name = fmt.Sprint("l", j)
			of.Listeners = append(of.Listeners, l)
		}
		return of
	}
	moves := []move{
		{put: &world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName}},
		{put: &world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromAll), Listeners: []world.Listener{{Name: "own", Port: 80, Protocol: protocolHTTP}}}},
		{put: set("web", 999, 2)},
	}
	for i := range full + 2 {
		moves = append(moves, move{put: set("mallory", i, 64)})
	}
	moves = append(moves, move{step: 1, ref: set("mallory", 3, 0).Ref()})
	for i := range moves {
		if moves[i].put != nil {
			moves[i].ref = moves[i].put.Ref()
		}
	}
	agree(t, moves)

	for _, gone := range []bool{false, true} {
		d := world.NewDelta()
		for _, m := range moves {
			if m.put != nil && (!gone || m.ref != set("mallory", 3, 0).Ref()) {
				d.Put(m.put)
			}
		}
		state := world.NewState()
		state.Apply(d)
		out := Build(state, testConfig)
		is := func(s *world.ListenerSet, status, reason string) {
			t.Helper()
			for _, f := range out.Findings[s.Ref()] {
				if f.Listener == "" && f.Type == accepted {
					if f.Status != status || f.Reason != reason {
						t.Errorf("%s (an older one is gone: %v) is told %+v", s.Key, gone, f)
					}
					return
				}
			}
			t.Errorf("%s is told nothing", s.Key)
		}
		is(set("web", 999, 0), isTrue, string(gatewayv1.ListenerSetReasonListenersNotValid)) // one of two, as the other one's hostname is taken
		is(set("mallory", full-1, 0), isTrue, string(gatewayv1.ListenerSetReasonListenersNotValid))
		if gone {
			is(set("mallory", full, 0), isTrue, string(gatewayv1.ListenerSetReasonListenersNotValid))
		} else {
			is(set("mallory", full, 0), isFalse, string(tooManyListeners))
		}
		is(set("mallory", full+1, 0), isFalse, string(tooManyListeners))
		if states := out.Listeners[set("mallory", full+1, 0).Ref()]; len(states) > 0 {
			t.Errorf("its listeners have states: %v", states)
		}
	}
}
