// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhatJudgesComesFirst: in whatever order a cluster says things, none of its services is handed out before the scopes and namespaces by which it is shared or not. When all of
// it goes, no scope stays for longer than another one that carves out of it.
func TestWhatJudgesComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const services = 20 * maxGathered
		s, state := NewStore(), NewState()
		take := func() {
			t.Helper()
			d, err := s.TakeGathered(t.Context(), "east", Beat{Every: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			state.Apply(d)
		}
		for i := range services {
			s.Put(service("west", fmt.Sprint(i), 1))
		}
		s.Put(&ServiceScope{Key: Key{Cluster: "west", Name: "carves-out"}, Priority: 1})
		s.Put(&ServiceScope{Key: Key{Cluster: "west", Name: "shares-the-rest"}})
		s.Put(&Namespace{Key: Key{Cluster: "west", Name: "demo"}, Labels: map[string]string{"a": "b"}})
		for len(state.Services) < services {
			take()
			if len(state.ServiceScopes) != 2 || len(state.Namespaces) != 1 {
				t.Fatalf("%d services came before what they are judged by: %d scopes, %d namespaces", len(state.Services), len(state.ServiceScopes), len(state.Namespaces))
			}
		}
		s.DropCluster("west")
		for len(state.Services) > 0 {
			if take(); len(state.ServiceScopes) > 0 {
				t.Fatalf("%d services are left, and %d scopes", len(state.Services), len(state.ServiceScopes))
			}
		}
	})
}

// TestWhatWaitsKeepsItsPlace: an object that becomes one that judges while it waits is as old as before, and is handed out once.
func TestWhatWaitsKeepsItsPlace(t *testing.T) {
	s := NewStore()
	n := &Namespace{Key: Key{Cluster: "west", Name: "demo"}}
	s.Put(n)
	if _, err := s.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Delete(n.Ref())
	first := s.Mark()
	s.Put(&Namespace{Key: n.Key, Labels: map[string]string{"a": "b"}})
	if w := s.pending["west"]; w.len() != 1 || w.first[n.Ref()] != first {
		t.Errorf("waiting: %+v", w)
	}
	if d, err := s.Take(t.Context()); err != nil || d.Len() != 1 || d.Namespaces[n.Key].Labels["a"] != "b" {
		t.Errorf("took %+v, %v", d, err)
	}
}
