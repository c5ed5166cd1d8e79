// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// benchServer holds n workloads, and has k subscribers of everything that have heard it all.
func benchServer(b *testing.B, n, k int) *Server {
	b.Helper()
	s := NewServer(ServerOptions{Log: logr.Discard()})
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for i := range n {
		w := samplePod()
		w.UID = fmt.Sprintf("west//Pod/shop/cart-%d", i)
		d.Workloads[w.UID] = w
	}
	s.Update(d)
	for range k {
		sub := &subscriber{server: s, wake: make(chan struct{}, 1), types: map[string]*subscription{}}
		if err := s.enlist(sub); err != nil {
			b.Fatal(err)
		}
		subscription := newSubscription(addressURL, "")
		subscription.wildcard = true
		sub.types[addressURL] = subscription
	}
	return s
}

// One endpoint among 100 000 changes, and 1000 subscribers take note.
func BenchmarkUpdateOne(b *testing.B) {
	s := benchServer(b, 100_000, 1000)
	w := *samplePod()
	w.UID = "west//Pod/shop/cart-7"
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		changed := w
		changed.Capacity = uint32(i)
		s.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: &changed}})
	}
}

// Ninety workloads change at once, as in ten clusters within a tenth of a second, and 200 subscribers are told.
func BenchmarkTellMany(b *testing.B) {
	const many, subscribers = 90, 200
	s := benchServer(b, many, subscribers)
	table := s.tables[addressURL]
	changed := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for uid := range table.entries {
		w := *samplePod()
		w.UID = uid
		changed.Workloads[uid] = &w
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for _, w := range changed.Workloads {
			w.Capacity = uint32(i + 1)
		}
		s.Update(changed)
		for sub := range s.subscribers {
			r := sub.next(addressURL)
			if len(r.entries) != many {
				b.Fatal("incomplete")
			}
			sub.types[addressURL].acknowledge(r.nonce)
		}
	}
}

// A new subscriber is told of 100 000 workloads.
func BenchmarkFirstResponse(b *testing.B) {
	s := benchServer(b, 100_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		subscription := newSubscription(addressURL, "")
		if err := subscription.first(wildcard(addressURL), s.tables[addressURL], subscription.since); err != nil {
			b.Fatal(err)
		}
		r := subscription.next(s.tables[addressURL], func(*entry) bool { return true }, subscription.since)
		if len(r.entries) != 100_000 {
			b.Fatal("incomplete")
		}
	}
}

func BenchmarkDecodeWorkload(b *testing.B) {
	body, err := encodeWorkload(samplePod())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(addressURL, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeWorkload(b *testing.B) {
	w := samplePod()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := workloadEntry(w); err != nil {
			b.Fatal(err)
		}
	}
}
