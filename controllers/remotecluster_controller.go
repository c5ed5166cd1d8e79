// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
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
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// leavingLook is how often it is looked whether all of a cluster that is unlinked has left.
	leavingLook = 200 * time.Millisecond
	// leavingPrefix begins the name that the limits of such a cluster have in the store. No object of the API can have it.
	leavingPrefix = " "
)

// RemoteReconciler makes what Secrets and RemoteClusters say true: every replica connects; the leader also makes a RemoteCluster for
// each key of a labelled Secret, and removes those whose key is gone.
type RemoteReconciler struct {
	client    client.Client
	namespace string
	local     world.Cluster
	remotes   *Remotes
	store     *world.Store // gets the RemoteClusters that speak for a cluster: their limits count
	leading   <-chan struct{}
	statuses  *inbox // RemoteClusters whose status may differ
	log       logr.Logger
	first     chan struct{} // closed after the first success

	once sync.Once
	mu   sync.Mutex
	plan remotePlan
	// Owned by Reconcile, of which one runs at a time.
	limited map[world.ObjectRef]*world.RemoteCluster // in the store, each under its name
	leaving map[world.Cluster]*world.RemoteCluster   // in the store, of clusters that were unlinked
}

// SetupWithManager follows Secrets of the system namespace and all RemoteClusters. They are few and planned together, under one name.
func (r *RemoteReconciler) SetupWithManager(mgr ctrl.Manager, wake *inbox) error {
	everywhere := false
	all := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if o.GetNamespace() != "" && o.GetNamespace() != r.namespace {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: "all"}}}
	})
	return ctrl.NewControllerManagedBy(mgr).Named("remotes").
		Watches(&corev1.Secret{}, all).
		Watches(&v1alpha1.RemoteCluster{}, all, builder.WithPredicates(wished)).
		WatchesRawSource(wake.source()).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere}).
		Complete(r)
}

// wished says whether what is wished for changed, or whom an object was made for, or which cluster it is known to lead to. The rest of statuses, which we write ourselves, is no wish.
var wished = predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false }, DeleteFunc: func(event.DeleteEvent) bool { return false }, GenericFunc: func(event.GenericEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		was, before := e.ObjectOld.(*v1alpha1.RemoteCluster)
		is, after := e.ObjectNew.(*v1alpha1.RemoteCluster)
		return before && after && was.Status.ClusterUID != is.Status.ClusterUID
	},
})

// Planned is closed once the wishes known at start were made.
func (r *RemoteReconciler) Planned() <-chan struct{} { return r.first }

// Reconcile plans all remote clusters anew.
func (r *RemoteReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	if !r.remotes.Started() {
		return ctrl.Result{RequeueAfter: retryMin / 10}, nil
	}
	var secrets corev1.SecretList
	if err := r.client.List(ctx, &secrets, client.InNamespace(r.namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("list Secrets of %s: %w", r.namespace, err)
	}
	var objects v1alpha1.RemoteClusterList
	if err := r.client.List(ctx, &objects); err != nil {
		return ctrl.Result{}, fmt.Errorf("list RemoteClusters: %w", err)
	}
	plan := planRemotes(secrets.Items, objects.Items, r.local)
	r.limit(plan)
	r.remotes.Set(r.due(plan))
	var result ctrl.Result
	if r.forget() { // what waited for that is due now
		r.remotes.Set(r.due(plan))
	}
	if len(r.leaving) > 0 {
		result.RequeueAfter = leavingLook
	}
	r.mu.Lock()
	r.plan = plan
	r.mu.Unlock()
	r.once.Do(func() { close(r.first) })
	for i := range objects.Items {
		r.statuses.add(types.NamespacedName{Name: objects.Items[i].Name})
	}
	return result, r.write(ctx, plan)
}

// limit has the limits of those RemoteClusters count that speak for a cluster, and of no others: one that is refused must neither widen
// nor narrow what the other one lets in. A cluster that is wished for has its limits before anything of it is read, and one that is no longer keeps them until forget: what a cluster said leaves in
// parts, and without its limits what is left would be let in whatever it claims, as if it were of our own trust domain and of any network.
func (r *RemoteReconciler) limit(plan remotePlan) {
	there := map[world.ObjectRef]*world.RemoteCluster{}
	for _, o := range plan.speaks {
		limits := world.ReduceRemoteCluster(r.local, o)
		there[limits.Ref()] = limits
	}
	for _, was := range r.limited {
		if _, linked := plan.wishes[was.ID]; linked || r.leaving[was.ID] != nil { // nothing was read yet of one that is linked again
			continue
		}
		last := *was
		last.Name = leavingPrefix + string(was.ID)
		r.store.Put(&last)
		if r.leaving == nil {
			r.leaving = map[world.Cluster]*world.RemoteCluster{}
		}
		r.leaving[was.ID] = &last
	}
	for _, limits := range there {
		r.store.Put(limits)
	}
	for ref := range r.limited {
		if there[ref] == nil {
			r.store.Delete(ref)
		}
	}
	r.limited = there
}

// due are the wishes that can come true now. A cluster that is linked again while something is left of what it said before waits until nothing is: the limits of before count for all of that, those of
// now for all that is read now, and neither for the other.
func (r *RemoteReconciler) due(plan remotePlan) map[world.Cluster]Wish {
	due := maps.Clone(plan.wishes)
	for id := range r.leaving {
		delete(due, id)
	}
	return due
}

// forget takes away the limits of clusters that were unlinked and of which nothing is in use any more. It says whether there was one.
func (r *RemoteReconciler) forget() (any bool) {
	for id, last := range r.leaving {
		if r.store.Done(id, r.store.Mark()) {
			r.store.Delete(last.Ref())
			delete(r.leaving, id)
			any = true
		}
	}
	return any
}

// write makes and removes RemoteClusters, if this replica leads.
func (r *RemoteReconciler) write(ctx context.Context, plan remotePlan) error {
	select {
	case <-r.leading:
	default:
		return nil // the leader does; election wakes this reconciler again
	}
	var errs []error
	for _, o := range plan.create {
		if err := r.client.Create(ctx, o.DeepCopy(), fieldOwner); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("create RemoteCluster %s: %w", o.Name, err))
		}
	}
	for _, name := range plan.remove {
		o := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := r.client.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("delete RemoteCluster %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Refused says why a RemoteCluster is not followed.
func (r *RemoteReconciler) Refused(name string) (refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.plan.refused[name]
	return f, ok
}

// Named is the RemoteCluster that speaks for a cluster; "" if none does.
func (r *RemoteReconciler) Named(id world.Cluster) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan.named[id]
}
