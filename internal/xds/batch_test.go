// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// listeners are subscribers of a server without a network.
type listeners struct {
	t      *testing.T
	server *Server
}

// join adds one who was told what there is; without acknowledging it if it is slow.
func (l *listeners) join(r *discovery.DeltaDiscoveryRequest, slow bool) *subscriber {
	l.t.Helper()
	sub := &subscriber{server: l.server, wake: make(chan struct{}, 1), types: map[string]*subscription{}, log: logr.Discard()}
	if err := l.server.enlist(sub); err != nil {
		l.t.Fatal(err)
	}
	l.say(sub, r)
	if first := sub.next(addressURL); !slow {
		l.say(sub, &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResponseNonce: first.nonce})
	}
	return sub
}

func (l *listeners) say(sub *subscriber, r *discovery.DeltaDiscoveryRequest) {
	l.t.Helper()
	if _, err := sub.take(r); err != nil {
		l.t.Fatal(err)
	}
}

// hears gives what a subscriber is told next, and acknowledges it.
func (l *listeners) hears(sub *subscriber) string {
	l.t.Helper()
	r := sub.next(addressURL)
	if r == nil {
		return "nothing"
	}
	var said []string
	for _, e := range r.entries {
		said = append(said, "+"+e.name)
	}
	for _, name := range r.removed {
		said = append(said, "-"+name)
	}
	l.say(sub, &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResponseNonce: r.nonce})
	return strings.Join(said, " ")
}

func TestBatchIsSharedByThoseWhoAreOwedNothingElse(t *testing.T) {
	l := &listeners{t, NewServer(ServerOptions{Log: logr.Discard()})}
	l.server.Update(workloads(pod("a", "", ""), pod("b", "", "")))
	named := wildcard(addressURL)
	named.ResourceNamesSubscribe = []string{"*", "b"}
	subs := map[string]*subscriber{
		"one": l.join(wildcard(addressURL), false), "another": l.join(wildcard(addressURL), false), "slow": l.join(wildcard(addressURL), true),
		"on demand": l.join(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: []string{"b", "x"}}, false),
		"named":     l.join(named, false),
	}
	l.server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"c": pod("c", "", ""), "b": nil, "a": pod("a", "10.0.0.1", "")}})
	shared := map[*batch][]string{}
	for name, sub := range subs {
		s := sub.types[addressURL]
		shared[s.batch] = append(shared[s.batch], name)
	}
	if len(shared) != 2 || len(shared[nil]) != 2 {
		t.Errorf("batches are shared as %v", shared)
	}
	for name, want := range map[string]string{"one": "+a +c -b", "on demand": "-b", "named": "+a +c -b", "slow": "nothing"} {
		if got := l.hears(subs[name]); got != want {
			t.Errorf("%s hears %q, want %q", name, got, want)
		}
	}
	// Who has not heard of it yet is told of what comes then in the same response, once each and as it is.
	l.server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"d": pod("d", "", ""), "c": nil}})
	for name, want := range map[string]string{"one": "+d -c", "another": "+a +d -b -c"} {
		if got := l.hears(subs[name]); got != want {
			t.Errorf("%s hears %q then, want %q", name, got, want)
		}
	}
	slow := subs["slow"]
	l.say(slow, &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResponseNonce: slow.types[addressURL].nonce})
	if got := l.hears(slow); got != "+a +d -b -c" {
		t.Errorf("the slow one hears %q", got)
	}
}

func TestBatchOfOneWhoChangesItsMind(t *testing.T) {
	l := &listeners{t, NewServer(ServerOptions{Log: logr.Discard()})}
	l.server.Update(workloads(pod("a", "", "")))
	leaves, asks := l.join(wildcard(addressURL), false), l.join(wildcard(addressURL), false)
	l.server.Update(workloads(pod("b", "", ""), pod("c", "", "")))
	l.say(leaves, &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: []string{"b"}, ResourceNamesUnsubscribe: []string{"*"}})
	if got := l.hears(leaves); got != "+b" {
		t.Errorf("who leaves hears %q", got)
	}
	l.say(asks, &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: []string{"a", "x"}})
	if got := l.hears(asks); got != "+a +b +c -x" {
		t.Errorf("who asks for more hears %q", got)
	}
}

// A batch is made when the first asks for it who is owed nothing else, and for nobody else.
func TestBatchIsMadeForWhoCanUseIt(t *testing.T) {
	made := 0
	one := &batch{removed: []string{"gone"}}
	make := func() *batch { made++; return one }
	demand := newTold(t, "", []string{"a"}, nil, nil)
	named := newTold(t, "", []string{"*", "a"}, nil, nil)
	owed := newTold(t, "", []string{"*"}, nil, nil, podEntry(t, "a", "", ""))
	for what, s := range map[string]*told{"on demand": demand, "named": named, "owed": owed} {
		if s.takes(make, time.Time{}) || made != 0 {
			t.Errorf("%s: a batch was made or taken", what)
		}
	}
	owed.hears("+a")
	if !owed.takes(make, time.Time{}) || made != 1 || owed.batch != one {
		t.Errorf("%d batches are made for one who can use it", made)
	}
}

func TestBatchHasBounds(t *testing.T) {
	table := newTable()
	var names []string
	for _, name := range []string{"a", "b", "c"} {
		table.put(podEntry(t, name, "", ""))
		names = append(names, name, name)
	}
	if b := newBatch(slices.Clone(names), table, 4); b == nil || len(b.entries) != 3 {
		t.Error("three names are too many")
	}
	if newBatch(slices.Clone(names), table, 3) != nil {
		t.Error("a large response is one of many names")
	}
}
