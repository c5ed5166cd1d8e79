// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"reflect"
	"slices"
	"sync"
)

// Store takes objects from many feeds and hands out what changed since the last time, coalesced: an object that changed ten
// times between two calls of Take is in the Delta once, as it is now. What is pending is bounded by the number of objects.
// Feeds never wait for the reader.
type Store struct {
	mu      sync.Mutex
	objects map[Cluster]map[ObjectRef]Object // as the feeds last said
	pending map[ObjectRef]struct{}
	// changed holds one token while pending is not empty.
	changed chan struct{}
}

// NewStore is an empty store.
func NewStore() *Store {
	return &Store{
		objects: map[Cluster]map[ObjectRef]Object{},
		pending: map[ObjectRef]struct{}{},
		changed: make(chan struct{}, 1),
	}
}

// Put says that the object is now like this, and says whether that is news. The object must not be changed afterwards.
func (s *Store) Put(o Object) bool {
	ref := o.Ref()
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.objects[ref.Cluster]
	if old, ok := of[ref]; ok && reflect.DeepEqual(old, o) {
		return false
	}
	if of == nil {
		of = map[ObjectRef]Object{}
		s.objects[ref.Cluster] = of
	}
	of[ref] = o
	s.touch(ref)
	return true
}

// Delete says that the object is gone, and says whether that is news.
func (s *Store) Delete(ref ObjectRef) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(ref)
}

// DropCluster forgets everything that came from a cluster.
func (s *Store) DropCluster(c Cluster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := range s.objects[c] {
		s.remove(ref)
	}
}

// Refs names everything known of a cluster, sorted. A feed that takes over from another one uses it to delete what it did
// not find again.
func (s *Store) Refs(c Cluster) []ObjectRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	refs := make([]ObjectRef, 0, len(s.objects[c]))
	for ref := range s.objects[c] {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, ObjectRef.Compare)
	return refs
}

// Get finds an object as the feeds last said.
func (s *Store) Get(ref ObjectRef) (Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[ref.Cluster][ref]
	return o, ok
}

// Take waits until something changed and hands out all that did. The Delta belongs to the caller. An error is ctx's.
// There is one taker: two would each see a part.
func (s *Store) Take(ctx context.Context) (Delta, error) {
	for {
		select {
		case <-ctx.Done():
			return Delta{}, ctx.Err()
		case <-s.changed:
		}
		if d := s.take(); d.Len() > 0 {
			return d, nil
		}
	}
}

func (s *Store) take() Delta {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := NewDelta()
	for ref := range s.pending {
		if o, ok := s.objects[ref.Cluster][ref]; ok {
			d.Put(o)
		} else {
			d.Delete(ref)
		}
	}
	s.pending = map[ObjectRef]struct{}{} // a cleared one would stay as large as the largest delta ever was, and be walked each time
	return d
}

func (s *Store) remove(ref ObjectRef) bool {
	of := s.objects[ref.Cluster]
	if _, ok := of[ref]; !ok {
		return false
	}
	delete(of, ref)
	if len(of) == 0 {
		delete(s.objects, ref.Cluster)
	}
	s.touch(ref)
	return true
}

func (s *Store) touch(ref ObjectRef) {
	s.pending[ref] = struct{}{}
	select {
	case s.changed <- struct{}{}:
	default: // a token is there already
	}
}
