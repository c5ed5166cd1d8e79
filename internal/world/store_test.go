// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func service(c Cluster, name string, port uint16) *Service {
	return &Service{Key: Key{c, "demo", name}, Ports: []ServicePort{{Port: port}}}
}

func TestStoreCoalesces(t *testing.T) {
	s := NewStore()
	for i := range 10 {
		s.Put(service("east", "a", uint16(i)))
	}
	s.Put(service("east", "gone", 1))
	s.Delete(service("east", "gone", 1).Ref())
	d, err := s.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Services) != 2 || d.Services[Key{"east", "demo", "a"}].Ports[0].Port != 9 {
		t.Errorf("took %v, want the last a only, and gone's deletion", d.Services)
	}
	if v, ok := d.Services[Key{"east", "demo", "gone"}]; !ok || v != nil {
		t.Error("a deletion before the first Take was lost: the reader may know the object from earlier")
	}
}

func TestStoreKnowsWhatIsNews(t *testing.T) {
	s := NewStore()
	for _, tc := range []struct {
		what string
		do   func() bool
		news bool
	}{
		{"first put", func() bool { return s.Put(service("east", "a", 1)) }, true},
		{"same again", func() bool { return s.Put(service("east", "a", 1)) }, false},
		{"changed", func() bool { return s.Put(service("east", "a", 2)) }, true},
		{"delete", func() bool { return s.Delete(service("east", "a", 0).Ref()) }, true},
		{"delete again", func() bool { return s.Delete(service("east", "a", 0).Ref()) }, false},
	} {
		if got := tc.do(); got != tc.news {
			t.Errorf("%s: news %v, want %v", tc.what, got, tc.news)
		}
	}
}

func TestStoreDropsACluster(t *testing.T) {
	s := NewStore()
	s.Put(service("east", "a", 1))
	s.Put(service("west", "a", 1))
	s.Put(&Pod{Key: Key{"west", "demo", "p"}})
	if _, err := s.Take(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.DropCluster("west")
	d, err := s.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d.Len() != 2 || d.Pods[Key{"west", "demo", "p"}] != nil || d.Services[Key{"west", "demo", "a"}] != nil {
		t.Errorf("dropping west gave %+v", d)
	}
	if refs := s.Refs("west"); len(refs) != 0 {
		t.Errorf("west still has %v", refs)
	}
	if refs := s.Refs("east"); !slices.Equal(refs, []ObjectRef{{KindService, Key{"east", "demo", "a"}}}) {
		t.Errorf("east has %v", refs)
	}
}

func TestTakeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore()
		ctx, cancel := context.WithCancel(t.Context())
		took, failed := make(chan Delta, 1), make(chan error, 1)
		go func() {
			d, err := s.Take(ctx)
			if err != nil {
				t.Errorf("Take: %v", err)
			}
			took <- d
			_, err = s.Take(ctx)
			failed <- err
		}()
		synctest.Wait()
		if len(took) != 0 {
			t.Fatal("Take answered before anything happened")
		}
		s.Put(service("east", "a", 1))
		if d := <-took; d.Len() != 1 {
			t.Errorf("took %d objects, want 1", d.Len())
		}
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("Take after cancel: %v", err)
		}
	})
}

// TestNewsGather says when a delta is handed out to whom it costs something, and what is in it.
func TestNewsGather(t *testing.T) {
	const every = 100 * time.Millisecond
	type news struct {
		at int // milliseconds
		of Cluster
	}
	for _, tc := range []struct {
		name string
		news []news
		want map[int]int // objects, by milliseconds
	}{
		{"one far change after a quiet time", []news{{0, "west"}}, map[int]int{0: 1}},
		{"far changes soon after another", []news{{0, "west"}, {10, "west"}, {20, "south"}, {90, "west"}}, map[int]int{0: 1, 100: 3}},
		{"a near one does not wait for them", []news{{0, "west"}, {10, "west"}, {20, "south"}, {30, "east"}}, map[int]int{0: 1, 30: 1, 100: 2}},
		{"nor do they for it", []news{{0, "west"}, {30, "east"}, {40, "west"}, {50, "east"}, {60, "west"}}, map[int]int{0: 1, 30: 1, 50: 1, 100: 2}},
		{"near ones never wait", []news{{0, "east"}, {1, "east"}, {2, "east"}}, map[int]int{0: 1, 1: 1, 2: 1}},
		{"both when the time is over", []news{{0, "west"}, {120, "east"}, {150, "west"}}, map[int]int{0: 1, 120: 1, 150: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, began := NewStore(), time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				got := map[int]int{}
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						d, err := s.TakeGathered(ctx, "east", Beat{Every: every})
						if err != nil {
							return
						}
						got[int(time.Since(began).Milliseconds())] += d.Len()
					}
				}()
				for i, n := range tc.news {
					time.Sleep(time.Until(began.Add(time.Duration(n.at) * time.Millisecond)))
					s.Put(service(n.of, fmt.Sprint(i), 1))
					synctest.Wait()
				}
				time.Sleep(time.Second)
				cancel()
				<-done
				if !maps.Equal(got, tc.want) {
					t.Errorf("objects by milliseconds: %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// TestFloodComesInParts says that however much others say at once, what near says waits for a part of it at most, and that nothing is lost.
func TestFloodComesInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, seen := NewStore(), map[ObjectRef]bool{}
		for i := range 6 * maxGathered {
			s.Put(service("west", fmt.Sprint(i), 1))
		}
		for part := range 6 {
			near := fmt.Sprint("near", part)
			s.Put(service("east", near, 1))
			d, err := s.TakeGathered(t.Context(), "east", Beat{Every: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if d.Services[Key{"east", "demo", near}] == nil || d.Len() > maxGathered+1 {
				t.Fatalf("part %d has %d objects, and what was said at hand: %v", part, d.Len(), d.Services[Key{"east", "demo", near}] != nil)
			}
			for key := range d.Services {
				seen[ObjectRef{KindService, key}] = true
			}
		}
		if len(seen) != 6*maxGathered+6 || len(s.pending) != 0 {
			t.Errorf("%d objects came, %d clusters are pending", len(seen), len(s.pending))
		}
	})
}

// TestDone says when the taker has done with what was said: not when it took it, but when it comes back; and what is said later does not count.
func TestDone(t *testing.T) {
	s := NewStore()
	take := func() {
		t.Helper()
		if _, err := s.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, c Cluster, by Mark, want bool) {
		t.Helper()
		if got := s.Done(c, by); got != want {
			t.Errorf("%s: done with %s is %v, want %v", when, c, got, want)
		}
	}
	check("nothing was said", "west", s.Mark(), true)
	s.Put(service("west", "a", 1))
	first := s.Mark()
	check("not taken", "west", first, false)
	check("not taken", "south", first, true)
	s.Put(service("west", "a", 2)) // the same object again does not make it younger
	take()
	check("in hand", "west", first, false)
	s.Put(service("west", "b", 1))
	take()
	check("the taker has another in hand", "west", first, true)
	check("the taker has it in hand", "west", s.Mark(), false)
	second := s.Mark()
	s.Put(service("west", "c", 1))
	take()
	s.DropCluster("west")
	check("more waits", "west", second, true)
	check("it waits", "west", s.Mark(), false)
}

// TestGatheringGivenUpLosesNothing says that what a taker held back when it gave up is there for the next one.
func TestGatheringGivenUpLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore()
		s.Put(service("west", "a", 1))
		if _, err := s.TakeGathered(t.Context(), "east", Beat{Every: time.Hour}); err != nil {
			t.Fatal(err)
		}
		s.Put(service("west", "a", 2))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.TakeGathered(ctx, "east", Beat{Every: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("held back for %v: %v", time.Minute, err)
		}
		if d, err := s.Take(t.Context()); err != nil || d.Len() != 1 {
			t.Errorf("the next took %d objects, %v", d.Len(), err)
		}
	})
}

// TestStoreUnderManyFeeds says that whatever the feeds do at once, the sum of the deltas is what they last said.
func TestStoreUnderManyFeeds(t *testing.T) {
	s, state := NewStore(), NewState()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			d, err := s.TakeGathered(ctx, "c0", Beat{Every: time.Millisecond})
			if err != nil {
				return
			}
			state.Apply(d)
		}
	}()
	var feeds sync.WaitGroup
	for f := range 4 {
		feeds.Go(func() {
			c := Cluster(fmt.Sprintf("c%d", f))
			for i := range 500 {
				name := fmt.Sprintf("s%d", i%20)
				switch {
				case i%7 == 3:
					s.Delete(service(c, name, 0).Ref())
				case i == 250 && f == 0:
					s.DropCluster(c)
				default:
					s.Put(service(c, name, uint16(i)))
				}
			}
		})
	}
	feeds.Wait()
	cancel()
	<-done
	state.Apply(s.take())
	known := 0
	for f := range 4 {
		for _, ref := range s.Refs(Cluster(fmt.Sprintf("c%d", f))) {
			known++
			if o, _ := s.Get(ref); state.Services[ref.Key] != o {
				t.Errorf("%s is %v in the state and %v in the store", ref, state.Services[ref.Key], o)
			}
		}
	}
	if len(state.Services) != known {
		t.Errorf("the state has %d services, the store %d", len(state.Services), known)
	}
}

// TestEveryKindCanBeStored fails when a kind is forgotten in one of the switches.
func TestEveryKindCanBeStored(t *testing.T) {
	k := Key{"east", "n", "x"}
	objects := []Object{
		&Pod{Key: k}, &Service{Key: k}, &EndpointSlice{Key: k}, &Node{Key: k}, &Namespace{Key: k}, &GatewayClass{Key: k}, &Gateway{Key: k},
		&ServiceScope{Key: k}, &RemoteCluster{Key: k}, &AuthorizationPolicy{Key: k}, &PeerAuthentication{Key: k}, &VIP{Key: k}, &ListenerSet{Key: k},
	}
	d, state := NewDelta(), NewState()
	for _, o := range objects {
		d.Put(o)
	}
	if d.Len() != len(objects) {
		t.Fatalf("%d kinds put, %d in the delta", len(objects), d.Len())
	}
	state.Apply(d)
	gone := NewDelta()
	for _, o := range objects {
		gone.Delete(o.Ref())
	}
	if gone.Len() != len(objects) {
		t.Fatalf("%d kinds deleted, %d in the delta", len(objects), gone.Len())
	}
	state.Apply(gone)
	if n := (Delta{state.Tables}).Len(); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}
