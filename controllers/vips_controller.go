// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// VIPReconciler keeps the addresses of services that exist in other clusters only. Every replica reads them from the ConfigMap into the
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

// Loaded is closed after the ConfigMap was read once.
func (r *VIPReconciler) Loaded() <-chan struct{} { return r.loaded }

// NeedLeaderElection is false: every replica reads.
func (r *VIPReconciler) NeedLeaderElection() bool { return false }

// SetupWithManager follows the ConfigMap, and news of what is wanted.
func (r *VIPReconciler) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	everywhere := false
	mine := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if o.GetNamespace() != r.namespace || o.GetName() != vipsName {
			return nil
		}
		return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
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
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: vipsName}}
	err := r.reader.Get(ctx, client.ObjectKeyFromObject(object), object)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return ctrl.Result{}, fmt.Errorf("read ConfigMap %s: %w", vipsName, err)
	}
	current, bad := decodeLeases(object.Data)
	if bad != nil {
		r.log.Error(bad, "some reserved addresses cannot be read and will be given out anew")
	}
	if missing && len(r.last) > 0 {
		// Somebody deleted it. What was given out is in use: it is written again as it was.
		current = r.last
	}
	next, err := r.allocate(ctx, object, missing, &current)
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

func (r *VIPReconciler) allocate(ctx context.Context, object *corev1.ConfigMap, missing bool, current *leases) (next time.Time, err error) {
	for _, condition := range []<-chan struct{}{r.leading, r.complete} {
		select {
		case <-condition:
		default:
			return time.Time{}, nil // both wake this reconciler when they come true
		}
	}
	after, changed, next, unserved := current.allocate(r.want(), time.Now())
	if len(unserved) > 0 {
		r.log.Error(fmt.Errorf("the range %s is used up", vipRange), "services of other clusters have no address here", "services", len(unserved))
	}
	data := after.encode()
	if !changed && (len(data) == 0 || maps.Equal(data, object.Data)) {
		return next, nil
	}
	object.Data = data
	if missing {
		err = r.client.Create(ctx, object, fieldOwner)
	} else {
		err = r.client.Update(ctx, object, fieldOwner)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("write ConfigMap %s: %w", vipsName, err)
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
