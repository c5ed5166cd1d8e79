// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// historyLength is how many changes of a kind a watch can begin behind: a minute of the most that is done here.
const historyLength = 8192

var (
	errGone     = errors.New("resource version is too old")
	errExists   = errors.New("already exists")
	errNotFound = errors.New("not found")
	errConflict = errors.New("the object has been modified")
)

// event is one change of one object, as all watches are told it. Its object is never changed.
type event struct {
	what    watch.EventType
	object  client.Object
	version uint64

	mu      sync.Mutex
	encoded map[string][]byte // by media type
}

// table holds the objects of one kind.
type table struct {
	resource served

	mu       sync.Mutex
	objects  map[types.NamespacedName]client.Object
	history  []*event
	forgot   uint64 // version of the newest event that is no longer in history
	watchers map[*watcher]struct{}
}

// watcher is one watch. What it has not been sent waits in a queue, as it would in a real server.
type watcher struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []*event
}

func (w *watcher) offer(e *event) {
	w.mu.Lock()
	w.queue = append(w.queue, e)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []*event {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.queue
	w.queue = nil
	return out
}

func newTable(r served) *table {
	return &table{resource: r, objects: map[types.NamespacedName]client.Object{}, watchers: map[*watcher]struct{}{}}
}

func keyOf(o client.Object) types.NamespacedName { return client.ObjectKeyFromObject(o) }

// commit needs t.mu. The object is the server's from here on.
func (s *Server) commit(t *table, what watch.EventType, o client.Object) {
	v := s.version.Add(1)
	o.SetResourceVersion(strconv.FormatUint(v, 10))
	o.GetObjectKind().SetGroupVersionKind(t.resource.kind)
	if what == watch.Deleted {
		delete(t.objects, keyOf(o))
	} else {
		t.objects[keyOf(o)] = o
	}
	e := &event{what: what, object: o, version: v, encoded: map[string][]byte{}}
	if t.history = append(t.history, e); len(t.history) > historyLength {
		half := len(t.history) / 2
		t.forgot = t.history[half-1].version
		t.history = slices.Clone(t.history[half:])
	}
	for w := range t.watchers {
		w.offer(e)
	}
}

func (s *Server) create(t *table, o client.Object) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.objects[keyOf(o)]; ok {
		return errExists
	}
	o.SetUID(uuid.NewUUID())
	if made := o.GetCreationTimestamp(); made.IsZero() {
		o.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	}
	o.SetGeneration(1)
	s.commit(t, watch.Added, o)
	return nil
}

// change replaces an object by what edit makes of a copy of it.
func (s *Server) change(t *table, key types.NamespacedName, edit func(client.Object) (client.Object, error)) (client.Object, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.objects[key]
	if !ok {
		return nil, errNotFound
	}
	now, err := edit(old.DeepCopyObject().(client.Object))
	if err != nil {
		return nil, err
	}
	if v := now.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return nil, errConflict
	}
	now.SetUID(old.GetUID())
	now.SetCreationTimestamp(old.GetCreationTimestamp())
	now.SetResourceVersion(old.GetResourceVersion())
	generation := now.GetGeneration()
	if now.SetGeneration(old.GetGeneration()); same(old, now) {
		return old, nil // as API servers do: what changes nothing is no write
	}
	now.SetGeneration(generation)
	s.commit(t, watch.Modified, now)
	return now, nil
}

// same says whether two objects of a kind are alike: by how they are encoded, where they can be in protobuf, which takes a fraction of the time: these clusters share the processors with those who are measured.
func same(a, b client.Object) bool {
	type encoder interface{ Marshal() ([]byte, error) }
	ea, ok := a.(encoder)
	if !ok {
		return equality.Semantic.DeepEqual(a, b)
	}
	one, err := ea.Marshal()
	if err != nil {
		return false
	}
	other, err := b.(encoder).Marshal()
	return err == nil && bytes.Equal(one, other)
}

func (s *Server) remove(t *table, key types.NamespacedName) (client.Object, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.objects[key]
	if !ok {
		return nil, errNotFound
	}
	gone := old.DeepCopyObject().(client.Object)
	s.commit(t, watch.Deleted, gone)
	return gone, nil
}

// list gives the objects that pass, in the order of their names, and the version at which they are all there is.
func (s *Server) list(t *table, passes func(client.Object) bool) ([]client.Object, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sorted(passes), s.version.Load()
}

// sorted needs t.mu.
func (t *table) sorted(passes func(client.Object) bool) []client.Object {
	keys := slices.SortedFunc(maps.Keys(t.objects), func(a, b types.NamespacedName) int {
		return compareStrings(a.Namespace, b.Namespace, a.Name, b.Name)
	})
	var out []client.Object
	for _, k := range keys {
		if o := t.objects[k]; passes(o) {
			out = append(out, o)
		}
	}
	return out
}

// watch begins a watch behind a version; with initial, behind everything that there is, which it gives.
func (s *Server) watch(t *table, behind uint64, initial bool, passes func(client.Object) bool) (*watcher, []client.Object, uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &watcher{wake: make(chan struct{}, 1)}
	now := s.version.Load()
	var there []client.Object
	if initial {
		there = t.sorted(passes)
	} else {
		if behind < t.forgot {
			return nil, nil, 0, fmt.Errorf("%w: %d, the oldest is %d", errGone, behind, t.forgot)
		}
		for _, e := range t.history {
			if e.version > behind {
				w.offer(e)
			}
		}
	}
	t.watchers[w] = struct{}{}
	return w, there, now, nil
}

func (t *table) unwatch(w *watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watchers, w)
}
