// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// lookAgainEvery is how soon a kind is noticed whose CRD was installed after we started.
var lookAgainEvery = 10 * time.Second

// networkLabel on the system namespace names the network of a cluster's pods.
const networkLabel = "topology.istio.io/network"

// watched is a kind that a feed reads.
type watched struct {
	kind world.Kind
	// object makes an empty one of the API's type.
	object func() client.Object
	// optional kinds come from CRDs that a cluster may not have.
	optional bool
}

// Feed brings the objects of one cluster into the store: every watched kind, each as it now is. It begins closed and lets nothing
// through until TakeOver, so that a new connection can read everything while an older one still feeds.
type Feed struct {
	store           *world.Store
	cluster         world.Cluster
	kinds           []watched
	systemNamespace string
	kindOf          map[reflect.Type]world.Kind
	pool            world.Pool

	// vetting is set if the cluster is not our own, whose API server alone can be trusted to check what it stores.
	vetting *vetting

	room      room
	following sync.WaitGroup

	mu         sync.Mutex
	open       bool
	closed     bool // for ever
	attached   []following
	network    string
	lastChange time.Time
	refused    refusals
}

// NewFeed makes a closed feed for a cluster.
func NewFeed(store *world.Store, cluster world.Cluster, kinds []watched, systemNamespace string) *Feed {
	f := &Feed{store: store, cluster: cluster, kinds: kinds, systemNamespace: systemNamespace, kindOf: map[reflect.Type]world.Kind{}}
	for _, w := range kinds {
		f.kindOf[reflect.TypeOf(w.object())] = w.kind
	}
	return f
}

// serving says whether a cluster has a kind. An error says that this is not known for now.
type serving func(context.Context, watched) (bool, error)

// Attach follows every kind in the cache and returns when all of them have been read once. Optional kinds that the cluster does not
// have are looked for again until ctx ends; call Wait after that. An error is ctx's.
func (f *Feed) Attach(ctx context.Context, objects cache.Cache, serves serving) error {
	var there, missing []watched
	for _, w := range f.kinds {
		is := true
		if w.optional {
			var err error
			if is, err = f.knows(ctx, serves, w); err != nil {
				return err
			}
		}
		if is {
			there = append(there, w)
		} else {
			missing = append(missing, w)
		}
	}
	if err := f.follow(ctx, objects, there); err != nil {
		return err
	}
	if len(missing) > 0 {
		f.following.Go(func() { f.lookAgain(ctx, objects, serves, missing) })
	}
	return nil
}

// knows asks until it is known whether the cluster has a kind: one that it has not would never be read, and so never would be all of it. An error is ctx's.
func (f *Feed) knows(ctx context.Context, serves serving, w watched) (bool, error) {
	for failures := 1; ; failures++ {
		is, err := serves(ctx, w)
		if err == nil {
			return is, nil
		}
		// The connection's probe, or the manager of our own cluster, says why.
		if err := sleep(ctx, pause(failures)); err != nil {
			return false, fmt.Errorf("ask cluster %q for %s: %w", f.cluster, w.kind, err)
		}
	}
}

// Wait returns after everything that Attach started has ended, which it does when Attach's context ends.
func (f *Feed) Wait() { f.following.Wait() }

func (f *Feed) lookAgain(ctx context.Context, objects cache.Cache, serves serving, missing []watched) {
	ticker := time.NewTicker(lookAgainEvery)
	defer ticker.Stop()
	for len(missing) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var still []watched
		for _, w := range missing {
			if is, err := serves(ctx, w); err != nil || !is || f.follow(ctx, objects, []watched{w}) != nil {
				still = append(still, w)
			}
		}
		missing = still
	}
}

// mapped asks the mapper of our own cluster's manager.
func mapped(mapper meta.RESTMapper) serving {
	return func(_ context.Context, w watched) (bool, error) {
		gvk, err := apiutil.GVKForObject(w.object(), scheme)
		if err != nil {
			panic(err) // the scheme lacks a kind that is watched: a mistake in this package
		}
		_, err = mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if meta.IsNoMatchError(err) {
			return false, nil
		}
		return err == nil, err
	}
}

// follow registers handlers for some kinds and waits until they were told of everything that is there.
func (f *Feed) follow(ctx context.Context, objects cache.Cache, kinds []watched) error {
	var synced []toolscache.InformerSynced
	var now []following
	for _, w := range kinds {
		read, registration, err := f.register(ctx, objects, w)
		if err != nil {
			return fmt.Errorf("follow %s of cluster %q: %w", w.kind, f.cluster, err)
		}
		synced, now = append(synced, registration.HasSynced), append(now, read)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("read cluster %q: %w", f.cluster, context.Cause(ctx))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attached = append(f.attached, now...)
	if f.open { // a TakeOver that did not know these kinds yet may have deleted what their handlers put
		for _, read := range now {
			f.read(read, map[world.ObjectRef]bool{})
		}
	}
	return nil
}

// following is the cache of a kind: everything of it as it now is.
type following func() []any

func (f *Feed) register(ctx context.Context, objects cache.Cache, w watched) (following, toolscache.ResourceEventHandlerRegistration, error) {
	for {
		informer, err := objects.GetInformer(ctx, w.object(), cache.BlockUntilSynced(false))
		if err == nil {
			shared, ok := informer.(toolscache.SharedInformer)
			if !ok {
				return nil, nil, fmt.Errorf("%T cannot be read as a whole", informer)
			}
			registration, err := informer.AddEventHandler(f.handlers())
			return shared.GetStore().List, registration, err
		}
		// The server could not be asked what it serves; the connection's probe says why.
		select {
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-time.After(retryMin):
		}
	}
}

func (f *Feed) handlers() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { f.changed(nil, o) },
		UpdateFunc: f.changed,
		DeleteFunc: func(o any) {
			if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			if s, ok := f.see(o); ok {
				f.remove(s.ref())
			}
		},
	}
}

// changed is about an object that came (before is nil) or is another now.
func (f *Feed) changed(before, o any) {
	is, ok := f.see(o)
	if !ok {
		return
	}
	if f.room.most > 0 { // else what was is an object of the API, and costs something to look at
		was, _ := f.see(before)
		f.room.add(was, is)
	}
	f.put(is)
}

func (f *Feed) put(o any) {
	s, ok := f.see(o)
	if !ok {
		return
	}
	f.mu.Lock()
	news := f.putLocked(s)
	f.mu.Unlock()
	if news {
		f.vetting.changed()
	}
}

func (f *Feed) remove(ref world.ObjectRef) {
	f.mu.Lock()
	f.room.freed(f.kept(ref))
	news := f.vetting != nil && f.refused.note(ref, nil)
	f.forget(ref)
	f.mu.Unlock()
	if news {
		f.vetting.changed()
	}
}

// kept is the value that the cache held of an object that has gone from it; nil: none, or that is not known, for the store has none of a feed that is not open. What the cluster says of
// an object as it goes need not be what it said before. It needs mu.
func (f *Feed) kept(ref world.ObjectRef) world.Object {
	if !f.open || f.room.most == 0 {
		return nil
	}
	value, _ := f.store.Get(ref)
	return value
}

// putLocked needs mu. It says whether what is said of refusals may differ now.
func (f *Feed) putLocked(s *seen) (news bool) {
	if f.vetting != nil && !f.closed {
		news = f.refused.note(s.ref(), s.refused())
		if s.refused() != nil {
			f.vetting.refused()
		}
	}
	if ref := s.ref(); s.refused() == nil && ref.Kind == world.KindNamespace && ref.Name == f.systemNamespace {
		f.network = s.network()
	}
	if s.value == nil {
		f.forget(s.ref())
	} else if f.open && f.store.Put(s.value) {
		f.lastChange = time.Now()
	}
	return news
}

// forget needs mu.
func (f *Feed) forget(ref world.ObjectRef) {
	if ref.Kind == world.KindNamespace && ref.Name == f.systemNamespace {
		f.network = ""
	}
	if f.open && f.store.Delete(ref) {
		f.lastChange = time.Now()
	}
}

// TakeOver closes the feed before it, if any, and opens this one: of the kinds that are read, the store then holds what this
// feed's cache holds and nothing else of the cluster. In between, objects that both have never leave.
func (f *Feed) TakeOver(before *Feed) {
	if before != nil {
		before.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.open = true
	found := map[world.ObjectRef]bool{}
	for _, read := range f.attached {
		f.read(read, found)
	}
	for _, ref := range f.store.Refs(f.cluster) {
		ours := slices.ContainsFunc(f.kinds, func(w watched) bool { return w.kind == ref.Kind })
		if ours && !found[ref] {
			f.forget(ref)
		}
	}
}

// read puts everything of one kind and adds it to found. It needs mu.
func (f *Feed) read(all following, found map[world.ObjectRef]bool) {
	for _, o := range all() {
		if s, ok := f.see(o); ok {
			found[s.ref()] = true
			f.putLocked(s)
		}
	}
}

// Close lets nothing through for ever. After it has returned no event of this feed reaches the store.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.closed = false, true
}

// Facts gives the network that the cluster's system namespace names and when something last changed.
func (f *Feed) Facts() (network string, lastChange time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.network, f.lastChange
}

// Refused sums up the objects that are refused as they now are.
func (f *Feed) Refused() refusedFacts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused.facts()
}
