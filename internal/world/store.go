// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"
)

// maxGathered is how much of what other clusters say is in one Delta of TakeGathered: translating 100 objects takes about 10 ms, for which what the own cluster says
// has to wait. With 1000 of them, every hundredth change of the own cluster waited 80 ms while another one changed a thousand times a second (discovery-flood).
const maxGathered = 100

// Store takes objects from many feeds and hands out what changed since the last time, coalesced: an object that changed ten
// times between two calls of Take is in the Delta once, as it is now. What is pending is bounded by the number of objects.
// Feeds never wait for the reader.
type Store struct {
	mu      sync.Mutex
	objects map[Cluster]map[ObjectRef]Object // as the feeds last said
	pending map[Cluster]*waiting             // no empty ones
	now     Mark                             // of the last change
	inHand  map[Cluster]Mark                 // the first of those changes that the taker has in hand, which has not come back yet
	// changed holds one token while pending is not empty, and nobody holds it back.
	changed chan struct{}
	// patience is whose news alone end the wait of a TakeGathered that holds back what is pending; empty if none does.
	patience Cluster
	// gathered is when what other clusters said was handed out last.
	gathered   time.Time
	allowances allowances
}

// Mark is a point in what the feeds said.
type Mark uint64

// NewStore is an empty store.
func NewStore() *Store {
	return &Store{
		objects: map[Cluster]map[ObjectRef]Object{},
		pending: map[Cluster]*waiting{},
		inHand:  map[Cluster]Mark{},
		changed: make(chan struct{}, 1),

		allowances: newAllowances(),
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
	if s.pending[c] != nil {
		s.allowances.dropped[c] = struct{}{}
	}
}

// Refs names everything known of a cluster, sorted. A feed that takes over from another one uses it to delete what it did
// not find again.
func (s *Store) Refs(c Cluster) []ObjectRef {
	s.mu.Lock()
	refs := make([]ObjectRef, 0, len(s.objects[c]))
	for ref := range s.objects[c] {
		refs = append(refs, ref)
	}
	s.mu.Unlock() // sorting those of a large cluster takes a tenth of a second
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

// Mark is now.
func (s *Store) Mark() Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Done says whether the taker has done with all that was said of a cluster up to a mark: it took it, and came back for more. It costs a walk over what is pending of
// the cluster, if the answer is yes.
func (s *Store) Done(c Cluster, by Mark) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, has := s.inHand[c]; has && first <= by {
		return false
	}
	w := s.pending[c]
	if w == nil {
		return true
	}
	for _, part := range w.parts() {
		for _, at := range part {
			if at <= by {
				return false
			}
		}
	}
	return true
}

// comeBack notes that the taker has done with what it had in hand.
func (s *Store) comeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.inHand)
	s.allowances.cameBack(time.Now())
}

// Take waits until something changed and hands out all that did. The Delta belongs to the caller. An error is ctx's.
// There is one taker: two would each see a part.
func (s *Store) Take(ctx context.Context) (Delta, error) {
	s.comeBack()
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

// TakeGathered is Take for whom each Delta costs something, however little is in it. What cluster near says is handed out at once, and so is what others say after a
// quiet time. While others change, what they say comes at most once for each tick of the beat, when it has settled, with all that came meanwhile. What one of them says
// that is much work for the taker (Spent), again and again, is put off; see PutOff.
func (s *Store) TakeGathered(ctx context.Context, near Cluster, beat Beat) (Delta, error) {
	s.comeBack()
	for {
		select {
		case <-ctx.Done():
			return Delta{}, ctx.Err()
		case <-s.changed:
		}
		if d, wait := s.takeDue(near, beat); d.Len() > 0 {
			return d, nil
		} else if wait > 0 {
			if err := s.holdBack(ctx, wait); err != nil {
				return Delta{}, err
			}
		}
	}
}

// takeDue takes what is due, and says for how long what is not may still be held back. What is held back is woken for by near alone, until holdBack ends.
func (s *Store) takeDue(near Cluster, beat Beat) (Delta, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, now := NewDelta(), time.Now()
	s.takeFrom(near, d)
	own := d.Len() > 0
	defer func() { s.allowances.handedOut(own) }()
	wait := beat.untilDue(now, s.gathered)
	if len(s.pending) == 0 {
		return d, 0
	}
	if wait <= 0 {
		if s.takeSome(d, now) {
			s.wake() // the rest is due as well, after what near says meanwhile
			return d, 0
		}
		s.gathered = now
		wait = beat.untilDue(now, now)
		if len(s.pending) == 0 {
			return d, 0
		}
	}
	if d.Len() > 0 {
		s.wake() // the token was for what is left as well
		return d, 0
	}
	s.patience = near
	return d, wait
}

// holdBack waits until what is pending is due, or near says something.
func (s *Store) holdBack(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.changed:
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patience = ""
	if len(s.pending) > 0 {
		s.wake() // for whoever takes next
	}
	return err
}

func (s *Store) take() Delta {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := NewDelta()
	for cluster := range s.pending {
		s.takeFrom(cluster, d)
	}
	return d
}

// takeSome takes maxGathered of what is pending and not put off, beside what is in the delta. It says whether there is more.
func (s *Store) takeSome(d Delta, now time.Time) (more bool) {
	most := d.Len() + maxGathered
	a := &s.allowances
	for cluster, w := range s.pending {
		alone := a.alone(cluster)
		switch {
		case a.wait(cluster, now) > 0:
			continue
		case d.Len() >= most || alone && d.Len() > 0 || !alone && a.handsOneAlone():
			more = true
			continue
		}
		a.hand[cluster] = struct{}{}
		for _, part := range w.parts() {
			for ref, at := range part {
				if d.Len() >= most {
					break
				}
				s.takeOne(ref, at, d)
				delete(part, ref)
			}
		}
		if w.len() > 0 {
			more = true
			continue
		}
		delete(s.pending, cluster)
		delete(a.dropped, cluster)
	}
	return more
}

func (s *Store) takeFrom(cluster Cluster, d Delta) {
	w := s.pending[cluster]
	if w == nil {
		return
	}
	for _, part := range w.parts() {
		for ref, at := range part {
			s.takeOne(ref, at, d)
		}
	}
	delete(s.pending, cluster)
}

func (s *Store) takeOne(ref ObjectRef, at Mark, d Delta) {
	if first, has := s.inHand[ref.Cluster]; !has || at < first {
		s.inHand[ref.Cluster] = at
	}
	if o, ok := s.objects[ref.Cluster][ref]; ok {
		d.Put(o)
	} else {
		d.Delete(ref)
	}
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
	w := s.pending[ref.Cluster]
	if w == nil {
		w = newWaiting()
		s.pending[ref.Cluster] = w
	}
	s.now++
	_, there := s.objects[ref.Cluster][ref]
	w.note(ref, there, s.now)
	if s.patience == "" || s.patience == ref.Cluster {
		s.wake()
	}
}

func (s *Store) wake() {
	select {
	case s.changed <- struct{}{}:
	default: // a token is there already
	}
}
