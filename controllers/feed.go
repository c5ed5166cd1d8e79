// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// lookAgainEvery is how soon a kind is noticed whose CRD was installed after we started.
const lookAgainEvery = 10 * time.Second

// networkLabel on the system namespace names the network of a cluster's pods.
const networkLabel = "topology.istio.io/network"

// watched is a kind that a feed reads.
type watched struct {
	kind world.Kind
	// object and list make empty ones of the API's type.
	object func() client.Object
	list   func() client.ObjectList
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

	following sync.WaitGroup

	mu         sync.Mutex
	open       bool
	closed     bool // for ever
	attached   []watched
	reader     client.Reader
	network    string
	lastChange time.Time
}

// NewFeed makes a closed feed for a cluster.
func NewFeed(store *world.Store, cluster world.Cluster, kinds []watched, systemNamespace string) *Feed {
	return &Feed{store: store, cluster: cluster, kinds: kinds, systemNamespace: systemNamespace}
}

// Attach follows every kind in the cache and returns when all of them have been read once. Optional kinds that the cluster does not
// have are looked for again until ctx ends; call Wait after that. An error is ctx's.
func (f *Feed) Attach(ctx context.Context, objects cache.Cache, mapper meta.RESTMapper) error {
	f.mu.Lock()
	f.reader = objects
	f.mu.Unlock()
	var there, missing []watched
	for _, w := range f.kinds {
		if w.optional && !served(mapper, w) {
			missing = append(missing, w)
		} else {
			there = append(there, w)
		}
	}
	if err := f.follow(ctx, objects, there); err != nil {
		return err
	}
	if len(missing) > 0 {
		f.following.Go(func() { f.lookAgain(ctx, objects, mapper, missing) })
	}
	return nil
}

// Wait returns after everything that Attach started has ended, which it does when Attach's context ends.
func (f *Feed) Wait() { f.following.Wait() }

func (f *Feed) lookAgain(ctx context.Context, objects cache.Cache, mapper meta.RESTMapper, missing []watched) {
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
			if !served(mapper, w) || f.follow(ctx, objects, []watched{w}) != nil {
				still = append(still, w)
			}
		}
		missing = still
	}
}

// served asks whether the API server has the kind.
func served(mapper meta.RESTMapper, w watched) bool {
	gvk, err := apiutil.GVKForObject(w.object(), scheme)
	if err != nil {
		panic(err) // the scheme lacks a kind that is watched: a mistake in this package
	}
	_, err = mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	// Any other error is no proof of absence: try to watch, which retries.
	return !meta.IsNoMatchError(err)
}

// follow registers handlers for some kinds and waits until they were told of everything that is there.
func (f *Feed) follow(ctx context.Context, objects cache.Cache, kinds []watched) error {
	var synced []toolscache.InformerSynced
	for _, w := range kinds {
		registration, err := f.register(ctx, objects, w)
		if err != nil {
			return fmt.Errorf("follow %s of cluster %q: %w", w.kind, f.cluster, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("read cluster %q: %w", f.cluster, context.Cause(ctx))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attached = append(f.attached, kinds...)
	if f.open { // a TakeOver that did not know these kinds yet may have deleted what their handlers put
		for _, w := range kinds {
			f.read(w, map[world.ObjectRef]bool{})
		}
	}
	return nil
}

func (f *Feed) register(ctx context.Context, objects cache.Cache, w watched) (toolscache.ResourceEventHandlerRegistration, error) {
	for {
		informer, err := objects.GetInformer(ctx, w.object(), cache.BlockUntilSynced(false))
		if err == nil {
			return informer.AddEventHandler(f.handlers(w))
		}
		// The server could not be asked what it serves; the connection's probe says why.
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(retryMin):
		}
	}
}

func (f *Feed) handlers(w watched) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { f.put(w, o) },
		UpdateFunc: func(_, o any) { f.put(w, o) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			if object, ok := o.(client.Object); ok {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.forget(f.ref(w, object))
			}
		},
	}
}

func (f *Feed) put(w watched, o any) {
	object, ok := o.(client.Object)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked(w, object)
}

func (f *Feed) putLocked(w watched, object client.Object) {
	if w.kind == world.KindNamespace && object.GetName() == f.systemNamespace {
		f.network = object.GetLabels()[networkLabel]
	}
	reduced := world.Reduce(f.cluster, object)
	if reduced == nil {
		f.forget(f.ref(w, object))
		return
	}
	if f.open && f.store.Put(reduced) {
		f.lastChange = time.Now()
	}
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

func (f *Feed) ref(w watched, o client.Object) world.ObjectRef {
	return world.ObjectRef{Kind: w.kind, Key: world.Key{Cluster: f.cluster, Namespace: o.GetNamespace(), Name: o.GetName()}}
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
	for _, w := range f.attached {
		f.read(w, found)
	}
	for _, ref := range f.store.Refs(f.cluster) {
		ours := slices.ContainsFunc(f.kinds, func(w watched) bool { return w.kind == ref.Kind })
		if ours && !found[ref] {
			f.forget(ref)
		}
	}
}

// read puts everything of one kind and adds it to found. It needs mu.
func (f *Feed) read(w watched, found map[world.ObjectRef]bool) {
	list := w.list()
	// The cache answers from memory; it is synced, so the only error is a wrong type.
	if err := f.reader.List(context.Background(), list, client.UnsafeDisableDeepCopy); err != nil {
		panic(fmt.Sprintf("list %s from the cache: %v", w.kind, err))
	}
	_ = meta.EachListItem(list, func(o runtime.Object) error {
		object := o.(client.Object)
		found[f.ref(w, object)] = true
		f.putLocked(w, object)
		return nil
	})
}

// Suspend lets nothing through until the next TakeOver.
func (f *Feed) Suspend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = false
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
