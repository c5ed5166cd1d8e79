// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	dto "github.com/prometheus/client_model/go"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// unheardOf are linked clusters of which it is not known what they have.
func unheardOf(clusters ...world.Cluster) map[string]bool {
	known := map[world.Cluster]heard{}
	for _, c := range clusters {
		known[c] = heard{}
	}
	return unheardNow(known, known)
}

// TestAnAddressGoesWhenAllWhoHadItAreHeardOf: what a cluster had that does not answer, it may have still; what others had is no concern of it.
func TestAnAddressGoesWhenAllWhoHadItAreHeardOf(t *testing.T) {
	s := serviceKey("s")
	many := make([]world.Cluster, maxExporters+1)
	for i := range many {
		many[i] = world.Cluster(fmt.Sprintf("c%02d", i))
	}
	type at struct {
		have    []world.Cluster // who has it, of those who are heard of
		unheard []world.Cluster
	}
	for _, tc := range []struct {
		name  string
		steps []at
		kept  bool
	}{
		{"who had it has it no more", []at{{have: []world.Cluster{"west"}}, {}}, false},
		{"who had it does not answer", []at{{have: []world.Cluster{"west"}}, {unheard: []world.Cluster{"west"}}}, true},
		{"who had it does not answer, as long as it likes", []at{{have: []world.Cluster{"west"}}, {unheard: []world.Cluster{"west"}}, {unheard: []world.Cluster{"west", "south"}}}, true},
		{"who had it is linked no more", []at{{have: []world.Cluster{"west"}}, {unheard: []world.Cluster{"west"}}, {}}, false},
		{"somebody else does not answer", []at{{have: []world.Cluster{"west"}}, {unheard: []world.Cluster{"south"}}}, false},
		{"the second of two who had it", []at{{have: []world.Cluster{"south", "west"}}, {have: []world.Cluster{"south"}, unheard: []world.Cluster{"west"}}, {unheard: []world.Cluster{"west"}}}, true},
		{"the first of two who had it", []at{{have: []world.Cluster{"south", "west"}}, {have: []world.Cluster{"west"}, unheard: []world.Cluster{"south"}}, {unheard: []world.Cluster{"south"}}}, true},
		{"who came later", []at{{have: []world.Cluster{"south"}}, {have: []world.Cluster{"south", "west"}}, {unheard: []world.Cluster{"west"}}}, true},
		{"who left it in time", []at{{have: []world.Cluster{"south", "west"}}, {have: []world.Cluster{"south"}}, {unheard: []world.Cluster{"west"}}}, false},
		{"one of very many who had it", []at{{have: many}, {unheard: many[8:]}}, true},
		{"none of very many who had it", []at{{have: many}, {}}, false},
		{"very many who had it, and then one", []at{{have: many}, {have: many[:1]}, {unheard: many[8:]}}, false},
	} {
		all, now := leases{}, time.Unix(0, 0)
		for i, step := range tc.steps {
			want := map[mesh.ServiceKey][]world.Cluster{}
			if len(step.have) > 0 {
				want[s] = step.have
			}
			now = now.Add(time.Second)
			out := giving{want: want, unheard: unheardOf(step.unheard...), now: now}.to(all)
			all = out.leases
			if last := i == len(tc.steps)-1; last && (all[s].Released == nil) != tc.kept || last && out.kept != tc.kept {
				t.Errorf("%s: kept is %v (%v), want %v", tc.name, all[s].Released == nil, out.kept, tc.kept)
			}
		}
		if len(all) != 1 {
			t.Errorf("%s: %d addresses", tc.name, len(all))
		}
	}
	old := leases{s: {Namespace: "ns", V4: vipAt(vipRange, 9), V6: vipAt(vipRange6, 9), Of: clusterMark("west")}} // written when leases did not say
	if out := (giving{unheard: unheardOf("south")}).to(old); out.leases[s].Released != nil {
		t.Error("of an address that does not say whose it may be, somebody who may have it was not heard of")
	}
}

// TestAnAddressIsOfTheShareOfWhoHasIt: who has given up a service is not charged for what others make of it.
func TestAnAddressIsOfTheShareOfWhoHasIt(t *testing.T) {
	s := serviceKey("s")
	many := make([]world.Cluster, maxExporters+1)
	for i := range many {
		many[i] = world.Cluster(fmt.Sprintf("c%02d", i))
	}
	for _, tc := range []struct {
		name          string
		first, second []world.Cluster // who has it
		unheard       []world.Cluster // then
		of            world.Cluster
	}{
		{"it is still there", []world.Cluster{"alpha"}, []world.Cluster{"alpha", "zeta"}, nil, "alpha"},
		{"another one has it, which comes first", []world.Cluster{"zeta"}, []world.Cluster{"alpha", "zeta"}, nil, "zeta"},
		{"it has given it up", []world.Cluster{"alpha", "zeta"}, []world.Cluster{"zeta"}, nil, "zeta"},
		{"it does not answer", []world.Cluster{"alpha", "zeta"}, []world.Cluster{"zeta"}, []world.Cluster{"alpha"}, "alpha"},
		{"very many have it", []world.Cluster{"alpha"}, many, nil, "alpha"},
	} {
		all := giving{want: map[mesh.ServiceKey][]world.Cluster{s: tc.first}, now: time.Unix(0, 0)}.to(leases{}).leases
		all = giving{want: map[mesh.ServiceKey][]world.Cluster{s: tc.second}, unheard: unheardOf(tc.unheard...), now: time.Unix(1, 0)}.to(all).leases
		if got := all[s].Of; got != clusterMark(tc.of) {
			t.Errorf("%s: the address is of %s, not of %s (%s)", tc.name, got, clusterMark(tc.of), tc.of)
		}
	}
}

// TestAnOldAddressSaysWhoMayHaveIt: one written when leases did not say it is named after who has it now and who may have it still, and goes when none of those has it.
func TestAnOldAddressSaysWhoMayHaveIt(t *testing.T) {
	s := serviceKey("s")
	for _, tc := range []struct {
		unheard, later []world.Cluster // while it is wanted, and after
		kept           bool
	}{
		{unheard: []world.Cluster{"south"}, later: []world.Cluster{"south"}, kept: true},
		{unheard: []world.Cluster{"south"}, later: []world.Cluster{"north"}},
		{later: []world.Cluster{"south"}},
	} {
		old := leases{s: {Namespace: "ns", V4: vipAt(vipRange, 9), V6: vipAt(vipRange6, 9), Of: clusterMark("west")}}
		now := time.Unix(0, 0)
		named := giving{want: map[mesh.ServiceKey][]world.Cluster{s: {"west"}}, unheard: unheardOf(tc.unheard...), now: now}.to(old).leases
		if by := named[s].By; by == anyone || by == "" {
			t.Errorf("%v does not answer: the address may be %q's", tc.unheard, by)
		}
		after := giving{unheard: unheardOf(tc.later...), now: now.Add(time.Second)}.to(named).leases
		if kept := after[s].Released == nil; kept != tc.kept {
			t.Errorf("%v did not answer, then %v: kept is %v", tc.unheard, tc.later, kept)
		}
	}
}

// TestWhoIsHeardOfThroughout: a cluster that went and came while we looked may have had something that we did not see.
func TestWhoIsHeardOfThroughout(t *testing.T) {
	yes := heard{all: true, since: 1}
	for name, tc := range map[string]struct {
		before, after map[world.Cluster]heard
		want          bool
	}{
		"heard of":            {map[world.Cluster]heard{"west": yes}, map[world.Cluster]heard{"west": yes}, true},
		"not any more":        {map[world.Cluster]heard{"west": yes}, map[world.Cluster]heard{"west": {since: 1}}, false},
		"only now":            {map[world.Cluster]heard{"west": {}}, map[world.Cluster]heard{"west": yes}, false},
		"linked only now":     {nil, map[world.Cluster]heard{"west": yes}, false},
		"again":               {map[world.Cluster]heard{"west": yes}, map[world.Cluster]heard{"west": {all: true, since: 2}}, false},
		"not linked any more": {map[world.Cluster]heard{"west": {}}, nil, true},
	} {
		if got := len(unheardNow(tc.before, tc.after)) == 0; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestAClusterThatChangesAllTheTimeCostsLittle: what one cluster can have written is bounded, however many of its services come and go; what others have is written
// at once all the same, and when it calms down everything is as it should be.
func TestAClusterThatChangesAllTheTimeCostsLittle(t *testing.T) {
	all, now, budget, written := leases{}, time.Unix(0, 0), newVIPBudget(), 0
	pass := func(want map[mesh.ServiceKey][]world.Cluster) given {
		now = now.Add(time.Second)
		budget.pass(now)
		before := all.encode()
		out := giving{want: want, budget: budget, now: now}.to(all)
		all = out.leases
		for shard, data := range all.encode() {
			if !maps.Equal(data, before[shard]) {
				written++
			}
		}
		return out
	}
	const seconds = 150
	late, want := 0, map[mesh.ServiceKey][]world.Cluster{}
	honest := map[mesh.ServiceKey][]world.Cluster{}
	waited := false
	for i := range seconds {
		clear(want)
		for n := range 20 { // new ones every second, and what was is gone
			want[serviceKey(fmt.Sprint("new-", i, "-", n))] = []world.Cluster{"hostile"}
		}
		if i%10 == 0 {
			honest[serviceKey(fmt.Sprint("s", i))] = []world.Cluster{"honest"}
		}
		for k, of := range honest {
			want[k] = of
			if i%2 == 0 { // it claims others' services, too, now and then
				want[k] = []world.Cluster{"honest", "hostile"}
			}
		}
		waited = pass(want).waiting["hostile"] > 0 || waited
		for k := range honest {
			if _, has := all[k]; !has {
				late++
			}
		}
	}
	if most := vipBurst + seconds*vipWrites + len(honest); written > most {
		t.Errorf("%d ConfigMaps were written in %d s, want at most %d", written, seconds, most)
	}
	if late > 0 || !waited {
		t.Errorf("an honest cluster's services waited %d times, the hostile one's at all: %v", late, waited)
	}
	for range 2 * vipShards {
		if pass(honest); len(budget.clusters) == 0 {
			break
		}
	}
	for k, v := range all {
		if of := honest[k]; (v.Released == nil) != (of != nil) || of != nil && v.By != clusterMark("honest")[:exporterMark] {
			t.Fatalf("when it is calm, %s is %+v", k.Hostname, v)
		}
	}
}

// TestWhatWasNotWrittenCostsNothing: of a pass that failed, a cluster pays for the ConfigMaps that were written.
func TestWhatWasNotWrittenCostsNothing(t *testing.T) {
	b, now := newVIPBudget(), time.Unix(100, 0)
	left := func() float64 { return b.clusters["west"].TokensAt(now) }
	b.pass(now)
	for shard := range 3 {
		if !b.spend([]string{"west"}, shard, now) {
			t.Fatal("a full account does not suffice")
		}
	}
	if left() != vipBurst-3 {
		t.Errorf("%v are left of %d after three", left(), vipBurst)
	}
	b.giveBack(func(shard int) bool { return shard == 2 }, now)
	if left() != vipBurst-1 {
		t.Errorf("%v are left of %d after one was written", left(), vipBurst)
	}
	b.giveBack(func(int) bool { return false }, now)
	b.giveBack(func(int) bool { return false }, now)
	if left() != vipBurst {
		t.Errorf("%v are left of %d after none was written", left(), vipBurst)
	}
}

// TestShortageIsTold: in the condition of the cluster, in an Event on the object that speaks for it, and in the counter.
func TestShortageIsTold(t *testing.T) {
	for want, short := range map[string]vipShort{
		"3 services that exist in other clusters only have no address here": {unserved: 3},
		"2 services that exist in other clusters only wait for an address":  {waiting: 2},
	} {
		c := claimsCondition(remoteFacts{state: &ConnectionState{}, short: short})
		if c.Status != "False" || !strings.Contains(c.Message, want) {
			t.Errorf("%+v gives %s: %s", short, c.Status, c.Message)
		}
	}
	var events recorded
	r := &VIPReconciler{events: &events, log: logr.Discard(), named: func(c world.Cluster) string { return map[world.Cluster]string{"west": "remote-of-west"}[c] }}
	for _, unserved := range []map[world.Cluster]int{{"west": 3, "unlinked": 1}, {"west": 4}, {}, {"west": 1}} {
		r.refuse(given{unserved: unserved})
	}
	if want := "RemoteCluster /remote-of-west: AddressesUsedUp"; !slices.Equal(events, recorded{want, want}) {
		t.Errorf("Events are %q, want one each time that it begins", events)
	}
	told := map[world.Cluster]int{}
	s := &vipShortage{metrics: newRemoteMetrics(nil), notify: func(c world.Cluster) { told[c]++ }}
	s.set(map[world.Cluster]vipShort{"west": {unserved: 3, waiting: 1}})
	s.set(map[world.Cluster]vipShort{"west": {unserved: 4}})
	s.set(map[world.Cluster]vipShort{"west": {unserved: 4}})
	s.set(nil)
	if told["west"] != 3 || s.of("west") != (vipShort{}) {
		t.Errorf("told %d times, now %+v", told["west"], s.of("west"))
	}
	var counted dto.Metric
	if err := s.metrics.refused.WithLabelValues("west", refusedAddresses).Write(&counted); err != nil || counted.GetCounter().GetValue() != 4 {
		t.Errorf("%v are counted (%v), want 4", counted.GetCounter().GetValue(), err)
	}
}
