// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
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
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// overlayPatience is how long the start waits for the ConfigMaps that Gateways name. One that cannot be read holds up its own Gateways and nothing else.
const overlayPatience = 10 * time.Second

// Overlays brings the ConfigMaps that Gateways of our own cluster name in infrastructure.parametersRef into the store: each as it now is,
// or that there is none. It reads those and no others, for a cluster may have many, and a ConfigMap is as large as its owner likes.
type Overlays struct {
	log      logr.Logger
	config   *rest.Config
	gateways cache.Cache
	store    *world.Store
	cluster  world.Cluster
	loaded   chan struct{}
	wait     sync.WaitGroup

	maps toolscache.Getter // written by Start

	mu    sync.Mutex                                    // hold for both below
	named map[types.NamespacedName]types.NamespacedName // Gateway → ConfigMap
	read  map[types.NamespacedName]*overlayReader       // by ConfigMap
}

// overlayReader follows one ConfigMap.
type overlayReader struct {
	informer toolscache.SharedIndexInformer
	stop     context.CancelFunc
	gateways int // that name it; hold Overlays.mu

	mu      sync.Mutex
	stopped bool
}

// NewOverlays needs to be added to the manager.
func NewOverlays(log logr.Logger, mgr ctrl.Manager, store *world.Store, cluster world.Cluster) *Overlays {
	return &Overlays{
		log: log, config: mgr.GetConfig(), gateways: mgr.GetCache(), store: store, cluster: cluster, loaded: make(chan struct{}),
		named: map[types.NamespacedName]types.NamespacedName{}, read: map[types.NamespacedName]*overlayReader{},
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
	defer o.mu.Unlock() // from here on nobody begins anything: changed looks at ctx
	return nil
}

// load follows Gateways and waits for what they name.
func (o *Overlays) load(ctx context.Context) {
	defer close(o.loaded)
	soon, cancel := context.WithTimeout(ctx, overlayPatience)
	defer cancel()
	registration, err := o.follow(ctx)
	if err != nil {
		return // the process ends
	}
	if !toolscache.WaitForCacheSync(soon.Done(), registration.HasSynced) {
		return
	}
	for _, r := range o.readers() {
		if !toolscache.WaitForCacheSync(soon.Done(), r.informer.HasSynced) {
			return
		}
	}
}

func (o *Overlays) readers() []*overlayReader {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]*overlayReader, 0, len(o.read))
	for _, r := range o.read {
		out = append(out, r)
	}
	return out
}

func (o *Overlays) follow(ctx context.Context) (toolscache.ResourceEventHandlerRegistration, error) {
	for {
		informer, err := o.gateways.GetInformer(ctx, &gatewayv1.Gateway{}, cache.BlockUntilSynced(false))
		if err == nil {
			return informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
				AddFunc:    func(in any) { o.changed(ctx, in, false) },
				UpdateFunc: func(_, in any) { o.changed(ctx, in, false) },
				DeleteFunc: func(in any) {
					if unknown, ok := in.(toolscache.DeletedFinalStateUnknown); ok {
						in = unknown.Obj
					}
					o.changed(ctx, in, true)
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

// changed is about what a Gateway names now.
func (o *Overlays) changed(ctx context.Context, in any, gone bool) {
	g, ok := in.(*gatewayv1.Gateway)
	if !ok {
		return
	}
	var now types.NamespacedName
	if parameters := world.ReduceGateway(o.cluster, g).Parameters; parameters != "" && !gone {
		now = types.NamespacedName{Namespace: g.Namespace, Name: parameters}
	}
	gateway := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.named[gateway]
	if before == now || ctx.Err() != nil {
		return
	}
	if now.Name == "" {
		delete(o.named, gateway)
	} else {
		o.named[gateway] = now
		o.add(ctx, now)
	}
	if before.Name != "" {
		o.drop(before)
	}
}

// add needs mu.
func (o *Overlays) add(ctx context.Context, name types.NamespacedName) {
	r := o.read[name]
	if r == nil {
		r = o.begin(ctx, name)
		o.read[name] = r
	}
	r.gateways++
}

// drop needs mu. It does not wait: the handler of an event that is under way may want it.
func (o *Overlays) drop(name types.NamespacedName) {
	r := o.read[name]
	if r.gateways--; r.gateways > 0 {
		return
	}
	delete(o.read, name)
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	o.store.Delete(world.ObjectRef{Kind: world.KindOverlay, Key: world.Key{Cluster: o.cluster, Namespace: name.Namespace, Name: name.Name}})
}

// begin follows one ConfigMap until it is dropped or ctx ends.
func (o *Overlays) begin(ctx context.Context, name types.NamespacedName) *overlayReader {
	one := toolscache.NewListWatchFromClient(o.maps, "configmaps", name.Namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, name.Name))
	r := &overlayReader{informer: toolscache.NewSharedIndexInformer(one, &corev1.ConfigMap{}, 0, toolscache.Indexers{})}
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
