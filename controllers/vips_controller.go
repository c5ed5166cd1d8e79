// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// VIPReconciler keeps the addresses of services that exist in other clusters only. Every replica reads them from ConfigMaps into the
// store; the leader also gives out new ones, and writes them before anybody uses them.
type VIPReconciler struct {
	client    client.Client
	reader    client.Reader // sees what the API server has: an address must not be given out twice
	namespace string
	store     *world.Store
	want      func() []mesh.ServiceKey
	leading   <-chan struct{}
	// complete is closed once want is about the whole world: before, an address might seem to be wanted no longer.
	complete <-chan struct{}
	log      logr.Logger

	once   sync.Once
	loaded chan struct{}
	last   leases // what was last read or written; owned by Reconcile
}

// Loaded is closed after the ConfigMaps were read once.
func (r *VIPReconciler) Loaded() <-chan struct{} { return r.loaded }

// NeedLeaderElection is false: every replica reads.
func (r *VIPReconciler) NeedLeaderElection() bool { return false }

// SetupWithManager follows the ConfigMaps, and news of what is wanted.
func (r *VIPReconciler) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	everywhere := false
	mine := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if o.GetNamespace() != r.namespace || !isShard(o.GetName()) {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: r.namespace, Name: vipsName}}} // all at once
	})
	news.add(types.NamespacedName{Namespace: r.namespace, Name: vipsName})
	return ctrl.NewControllerManagedBy(mgr).Named("vips").
		Watches(&corev1.ConfigMap{}, mine).
		WatchesRawSource(news.source()).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere}).
		Complete(r)
}

// Reconcile reads, and if this replica leads, allocates and writes.
func (r *VIPReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var there corev1.ConfigMapList
	if err := r.reader.List(ctx, &there, client.InNamespace(r.namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("read ConfigMaps %s: %w", vipsName, err)
	}
	byName := map[string]*corev1.ConfigMap{}
	for i := range there.Items {
		byName[there.Items[i].Name] = &there.Items[i]
	}
	var objects [vipShards]*corev1.ConfigMap
	var data [vipShards]map[string]string
	lost := leases{}
	for shard := range vipShards {
		object := byName[shardName(shard)]
		if object == nil {
			object = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: shardName(shard)}}
			// If somebody deleted it, what was given out is in use: it is written again as it was.
			for k, v := range r.last {
				if shardOf(v.V4) == shard {
					lost[k] = v
				}
			}
		}
		objects[shard], data[shard] = object, object.Data
	}
	current, bad := decodeLeases(gather(data))
	if bad != nil {
		r.log.Error(bad, "some reserved addresses cannot be read and will be given out anew")
	}
	restore(current, lost)
	next, err := r.allocate(ctx, objects, &current)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.last = current
	r.feed(current)
	r.once.Do(func() { close(r.loaded) })
	if next.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(time.Until(next), time.Second)}, nil
}

// restore adds leases that were lost, unless the service or the address was given again.
func restore(current, lost leases) {
	used := map[netip.Addr]bool{}
	for _, v := range current {
		used[v.V4] = true
	}
	for k, v := range lost {
		if _, ok := current[k]; !ok && !used[v.V4] {
			current[k] = v
		}
	}
}

func (r *VIPReconciler) allocate(ctx context.Context, objects [vipShards]*corev1.ConfigMap, current *leases) (next time.Time, err error) {
	for _, condition := range []<-chan struct{}{r.leading, r.complete} {
		select {
		case <-condition:
		default:
			return time.Time{}, nil // both wake this reconciler when they come true
		}
	}
	after, _, next, unserved := current.allocate(r.want(), time.Now())
	if len(unserved) > 0 {
		r.log.Error(fmt.Errorf("the range %s is used up", vipRange), "services of other clusters have no address here", "services", len(unserved))
	}
	data := after.encode()
	// The first one last: entries that once were in it are by then where they belong.
	for shard := vipShards - 1; shard >= 0; shard-- {
		object := objects[shard]
		if maps.Equal(data[shard], object.Data) {
			continue
		}
		object.Data = data[shard]
		if object.ResourceVersion == "" {
			err = r.client.Create(ctx, object, fieldOwner)
		} else {
			err = r.client.Update(ctx, object, fieldOwner)
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("write ConfigMap %s: %w", object.Name, err)
		}
	}
	*current = after
	return next, nil
}

// feed puts the addresses in use into the store, and takes out the others.
func (r *VIPReconciler) feed(current leases) {
	there := map[world.ObjectRef]bool{}
	for k, v := range current {
		if v.Released != nil {
			continue
		}
		vip := world.NewVIP(k, v.V4, v.V6)
		there[vip.Ref()] = true
		r.store.Put(vip)
	}
	for _, ref := range r.store.Refs("") {
		if ref.Kind == world.KindVIP && !there[ref] {
			r.store.Delete(ref)
		}
	}
}
