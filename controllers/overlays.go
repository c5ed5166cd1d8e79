// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// overlayPatience is how long the start waits for the ConfigMaps that Gateways name. One that cannot be read holds up its own Gateways and nothing else.
const overlayPatience = 10 * time.Second

// maxOverlays is how many ConfigMaps are read for the Gateways of one namespace: each is a watch, which is a request that stays open, and whoever may write Gateways there
// could ask for any number.
const maxOverlays = 32

// Overlays brings the ConfigMaps that Gateways of our own cluster name in infrastructure.parametersRef into the store: each as it now is,
// or that there is none. It reads those and no others, for a cluster may have many, and a ConfigMap is as large as its owner likes. Gateways whose class
// is somebody else's count for nothing.
type Overlays struct {
	log      logr.Logger
	config   *rest.Config
	gateways cache.Cache
	store    *world.Store
	cluster  world.Cluster
	loaded   chan struct{}
	wait     sync.WaitGroup

	maps toolscache.Getter // written by Start

	mu      sync.Mutex                    // hold for both below
	foreign map[string]bool               // classes that are somebody else's
	of      map[string]*namespaceOverlays // by namespace; those in which something is named
}

// namespaceOverlays are the ConfigMaps that Gateways of one namespace name.
type namespaceOverlays struct {
	wishes  map[string]overlayWish    // by Gateway, whosever it is
	read    map[string]*overlayReader // by ConfigMap
	refused map[string]bool           // ConfigMaps beyond maxOverlays
}

// overlayWish is what a Gateway names.
type overlayWish struct{ class, configMap string }

// overlayReader follows one ConfigMap.
type overlayReader struct {
	informer toolscache.SharedIndexInformer
	stop     context.CancelFunc
	first    chan struct{} // closed once what was there at first is in the store, or it is not followed any more

	mu      sync.Mutex
	stopped bool
}

// NewOverlays needs to be added to the manager.
func NewOverlays(log logr.Logger, mgr ctrl.Manager, store *world.Store, cluster world.Cluster) *Overlays {
	return &Overlays{
		log: log, config: mgr.GetConfig(), gateways: mgr.GetCache(), store: store, cluster: cluster, loaded: make(chan struct{}),
		foreign: map[string]bool{}, of: map[string]*namespaceOverlays{},
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: all replicas tell gateways what they serve.
func (o *Overlays) NeedLeaderElection() bool { return false }

// Loaded is closed when what Gateways named at the start was read, or that has taken too long.
func (o *Overlays) Loaded() <-chan struct{} { return o.loaded }

// Start implements manager.Runnable.
func (o *Overlays) Start(ctx context.Context) error {
	defer o.wait.Wait()
	clients, err := kubernetes.NewForConfig(o.config)
	if err != nil {
		return fmt.Errorf("make a client for overlays: %w", err)
	}
	o.maps = clients.CoreV1().RESTClient()
	o.wait.Go(func() { o.load(ctx) })
	<-ctx.Done()
	o.mu.Lock()
	defer o.mu.Unlock() // from here on nobody begins anything: settle looks at ctx
	return nil
}

// load follows classes and Gateways, and waits for what Gateways name.
func (o *Overlays) load(ctx context.Context) {
	soon, cancel := context.WithTimeout(ctx, overlayPatience)
	defer cancel()
	loaded := sync.OnceFunc(func() { close(o.loaded) })
	defer loaded()
	defer context.AfterFunc(soon, loaded)() // also while there is no CRD of Gateways yet
	for _, kind := range []struct {
		object  client.Object
		changed func(ctx context.Context, in any, gone bool)
	}{{&gatewayv1.GatewayClass{}, o.classChanged}, {&gatewayv1.Gateway{}, o.changed}} {
		registration, err := o.follow(ctx, kind.object, kind.changed)
		if err != nil {
			return // the process ends
		}
		if !toolscache.WaitForCacheSync(soon.Done(), registration.HasSynced) {
			soon, cancel = context.WithCancel(soon) // it is over: the rest is followed, and not waited for
			cancel()
		}
	}
	for _, r := range o.readers() {
		select { // that its informer has synced is not enough: what it has read must be in the store
		case <-r.first:
		case <-soon.Done():
			return
		}
	}
}

func (o *Overlays) readers() []*overlayReader {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []*overlayReader
	for _, of := range o.of {
		out = slices.AppendSeq(out, maps.Values(of.read))
	}
	return out
}

func (o *Overlays) follow(ctx context.Context, kind client.Object, changed func(ctx context.Context, in any, gone bool)) (toolscache.ResourceEventHandlerRegistration, error) {
	for {
		informer, err := o.gateways.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err == nil {
			return informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
				AddFunc:    func(in any) { changed(ctx, in, false) },
				UpdateFunc: func(_, in any) { changed(ctx, in, false) },
				DeleteFunc: func(in any) {
					if unknown, ok := in.(toolscache.DeletedFinalStateUnknown); ok {
						in = unknown.Obj
					}
					changed(ctx, in, true)
				},
			})
		}
		select { // the server cannot say what it serves, or has no Gateways yet
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(retryMin):
		}
	}
}

// classChanged is about whose a class is now. One that is gone may have been ours, and its Gateways go on.
func (o *Overlays) classChanged(ctx context.Context, in any, gone bool) {
	c, ok := in.(*gatewayv1.GatewayClass)
	if !ok {
		return
	}
	foreign := !gone && c.Spec.ControllerName != translate.ControllerName
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.foreign[c.Name] == foreign {
		return
	}
	if o.foreign[c.Name] = foreign; !foreign {
		delete(o.foreign, c.Name)
	}
	for namespace := range o.of {
		o.settle(ctx, namespace)
	}
}

// changed is about what a Gateway names now.
func (o *Overlays) changed(ctx context.Context, in any, gone bool) {
	g, ok := in.(*gatewayv1.Gateway)
	if !ok {
		return
	}
	wish := overlayWish{string(g.Spec.GatewayClassName), world.ReduceGateway(o.cluster, g).Parameters}
	o.mu.Lock()
	defer o.mu.Unlock()
	of := o.of[g.Namespace]
	if gone || wish.configMap == "" {
		if of == nil {
			return
		}
		delete(of.wishes, g.Name)
	} else {
		if of == nil {
			of = &namespaceOverlays{wishes: map[string]overlayWish{}, read: map[string]*overlayReader{}, refused: map[string]bool{}}
			o.of[g.Namespace] = of
		}
		if of.wishes[g.Name] == wish {
			return
		}
		of.wishes[g.Name] = wish
	}
	o.settle(ctx, g.Namespace)
}

// settle has read what Gateways of a namespace name now, as far as there is room, and nothing else. It needs mu, and does not wait: the handler of an event that is under way may want it.
func (o *Overlays) settle(ctx context.Context, namespace string) {
	if ctx.Err() != nil {
		return
	}
	of := o.of[namespace]
	wanted := map[string]bool{}
	for _, wish := range of.wishes {
		if !o.foreign[wish.class] {
			wanted[wish.configMap] = true
		}
	}
	for name, r := range of.read {
		if !wanted[name] {
			delete(of.read, name)
			o.drop(r, namespace, name)
		}
	}
	for name := range of.refused {
		if !wanted[name] {
			delete(of.refused, name)
			o.store.Delete(world.ObjectRef{Kind: world.KindOverlay, Key: o.key(namespace, name)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		switch {
		case of.read[name] != nil:
		case len(of.read) < maxOverlays:
			delete(of.refused, name)
			of.read[name] = o.begin(ctx, types.NamespacedName{Namespace: namespace, Name: name})
		case !of.refused[name]:
			of.refused[name] = true
			o.store.Put(&world.Overlay{Key: o.key(namespace, name), Problem: fmt.Sprintf("it is not read, as Gateways of one namespace may name no more than %d ConfigMaps", maxOverlays)})
		}
	}
	if len(of.wishes) == 0 {
		delete(o.of, namespace)
	}
}

func (o *Overlays) key(namespace, name string) world.Key {
	return world.Key{Cluster: o.cluster, Namespace: namespace, Name: name}
}

func (o *Overlays) drop(r *overlayReader, namespace, name string) {
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	o.store.Delete(world.ObjectRef{Kind: world.KindOverlay, Key: o.key(namespace, name)})
}

// begin follows one ConfigMap until it is dropped or ctx ends.
func (o *Overlays) begin(ctx context.Context, name types.NamespacedName) *overlayReader {
	one := toolscache.NewListWatchFromClient(o.maps, "configmaps", name.Namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, name.Name))
	r := &overlayReader{informer: toolscache.NewSharedIndexInformer(one, &corev1.ConfigMap{}, 0, toolscache.Indexers{}), first: make(chan struct{})}
	ctx, r.stop = context.WithCancel(ctx)
	tell := func() { o.tell(r, name) }
	// Both fail only on an informer that runs already.
	_ = r.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *toolscache.Reflector, err error) {
		o.log.Info("following a ConfigMap failed, and is tried again", "configmap", name.String(), "cause", err.Error())
	})
	_, _ = r.informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { tell() }, UpdateFunc: func(any, any) { tell() }, DeleteFunc: func(any) { tell() },
	})
	o.wait.Go(func() { r.informer.RunWithContext(ctx) })
	o.wait.Go(func() {
		defer close(r.first)
		if toolscache.WaitForCacheSync(ctx.Done(), r.informer.HasSynced) {
			tell() // if there is none, no event says so
		}
	})
	return r
}

// tell puts what is there now into the store. It looks for itself, so that it does not matter who calls it last.
func (o *Overlays) tell(r *overlayReader, name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || !r.informer.HasSynced() {
		return
	}
	found, ok, err := r.informer.GetStore().GetByKey(name.String())
	m, is := found.(*corev1.ConfigMap)
	if err != nil || !ok || !is {
		o.store.Put(world.MissingOverlay(o.cluster, name.Namespace, name.Name))
		return
	}
	o.store.Put(world.ReduceOverlay(o.cluster, m))
}
