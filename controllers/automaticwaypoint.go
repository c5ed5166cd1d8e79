// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// automaticLookAgain is how soon it is asked again whether everything is known that could want a waypoint.
const automaticLookAgain = time.Second

// automaticGrace is how long an automatic waypoint stays that nothing is behind any more, so that a route that is deleted and made anew finds it in place. It is no grace
// for what a Service's clients send: a waypoint lets go of a Service as soon as it hears of it, ends what runs, and refuses what node proxies that hear later still send.
var automaticGrace = time.Minute

// automaticMark is the annotation of Gateways that are made here. Its value is the Gateway's own UID, which no copy of it has, or at first automaticUnmarked: the UID
// is known only when there is a Gateway.
const automaticMark, automaticUnmarked = "isthmus.dev/automatic-waypoint", "new"

// AutomaticWaypointReconciler makes a waypoint in each namespace with Services that are to be behind it, and deletes it when none has been for a while. It is a Gateway
// like any other, so that everything that is known of Gateways is true of it; one of its name that a user made, or made from a copy, is left alone.
type AutomaticWaypointReconciler struct {
	client client.Client
	wanted func(namespace string) bool
	// complete is closed once wanted is about the whole world: before, a waypoint might seem to be wanted no longer.
	complete <-chan struct{}
	now      func() time.Time
	// idle is since when the waypoints of namespaces are not wanted, as far as this leader saw. Reconcile alone reads and writes it.
	idle map[string]time.Time
}

func newAutomaticWaypoints(c client.Client, wanted func(namespace string) bool, complete <-chan struct{}) *AutomaticWaypointReconciler {
	return &AutomaticWaypointReconciler{client: c, wanted: wanted, complete: complete, now: time.Now, idle: map[string]time.Time{}}
}

// SetupWithManager follows the Gateways of that name, and news of what is wanted.
func (r *AutomaticWaypointReconciler) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	named := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == translate.AutomaticWaypoint }))
	return ctrl.NewControllerManagedBy(mgr).Named("automaticwaypoint").
		For(&gatewayv1.Gateway{}, named).
		WatchesRawSource(news.source()).
		Complete(r)
}

// Reconcile makes or deletes the waypoint of one namespace.
func (r *AutomaticWaypointReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	select {
	case <-r.complete:
	default:
		return ctrl.Result{RequeueAfter: automaticLookAgain}, nil
	}
	wanted := r.wanted(req.Namespace)
	if wanted {
		delete(r.idle, req.Namespace)
	}
	var g gatewayv1.Gateway
	err := r.client.Get(ctx, req.NamespacedName, &g)
	switch {
	case apierrors.IsNotFound(err):
		delete(r.idle, req.Namespace)
		if wanted {
			return ctrl.Result{}, r.make(ctx, req.Namespace)
		}
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, err
	case !g.DeletionTimestamp.IsZero() || g.Labels[translate.LabelManagedBy] != translate.ManagedBy:
		delete(r.idle, req.Namespace) // if it comes, or comes back to us, its time begins anew
		return ctrl.Result{}, nil
	case g.Annotations[automaticMark] == automaticUnmarked:
		err = r.mark(ctx, &g)
	case wanted || g.Annotations[automaticMark] != string(g.UID):
		return ctrl.Result{}, nil
	default:
		since, idle := r.idle[req.Namespace]
		if !idle {
			since = r.now()
			r.idle[req.Namespace] = since
		}
		if rest := automaticGrace - r.now().Sub(since); rest > 0 {
			return ctrl.Result{RequeueAfter: rest}, nil
		}
		err = r.client.Delete(ctx, &g, client.Preconditions{UID: &g.UID, ResourceVersion: &g.ResourceVersion})
	}
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictWait}, nil // somebody changed it in between, so look again
	}
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("write Gateway %s: %w", req.NamespacedName, err)
	}
	return ctrl.Result{}, nil
}

// mark says on a Gateway that was made here that it is this very one.
func (r *AutomaticWaypointReconciler) mark(ctx context.Context, g *gatewayv1.Gateway) error {
	before := g.DeepCopy()
	g.Annotations[automaticMark] = string(g.UID)
	return r.client.Patch(ctx, g, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), fieldOwner)
}

// make makes the waypoint. A namespace that ends takes none any more.
func (r *AutomaticWaypointReconciler) make(ctx context.Context, namespace string) error {
	g := &gatewayv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: translate.AutomaticWaypoint,
			Labels: map[string]string{translate.LabelManagedBy: translate.ManagedBy}, Annotations: map[string]string{automaticMark: automaticUnmarked},
		},
		Spec: gatewayv1.GatewaySpec{
			GatewayClassName: translate.ClassWaypoint,
			Listeners:        []gatewayv1.Listener{{Name: "mesh", Port: mesh.HBONEPort, Protocol: "HBONE"}},
		},
	}
	err := r.client.Create(ctx, g, fieldOwner)
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
		return nil // the cache tells of it, and then it is marked
	}
	return fmt.Errorf("create Gateway %s/%s: %w", namespace, g.Name, err)
}
