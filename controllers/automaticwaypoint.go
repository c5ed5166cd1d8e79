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

// AutomaticWaypointReconciler makes a waypoint in each namespace with routes at Services for which labels name none, and deletes it when the last of these is
// gone. It is a Gateway like any other, so that everything that is known of Gateways is true of it; one of its name that a user made is left alone.
type AutomaticWaypointReconciler struct {
	client client.Client
	wanted func(namespace string) bool
	// complete is closed once wanted is about the whole world: before, a waypoint might seem to be wanted no longer.
	complete <-chan struct{}
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
	if r.wanted(req.Namespace) {
		return ctrl.Result{}, r.make(ctx, req.Namespace)
	}
	var g gatewayv1.Gateway
	if err := r.client.Get(ctx, req.NamespacedName, &g); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !isAutomatic(&g) || !g.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	err := r.client.Delete(ctx, &g, client.Preconditions{UID: &g.UID, ResourceVersion: &g.ResourceVersion})
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictWait}, nil // somebody changed it in between, so look again
	}
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete Gateway %s: %w", req.NamespacedName, err)
	}
	return ctrl.Result{}, nil
}

// isAutomatic says whether a Gateway is one of those that are made here.
func isAutomatic(g *gatewayv1.Gateway) bool {
	return g.Name == translate.AutomaticWaypoint && g.Labels[translate.LabelManagedBy] == translate.ManagedBy
}

// make makes the waypoint unless there is a Gateway of its name. A namespace that ends takes none any more.
func (r *AutomaticWaypointReconciler) make(ctx context.Context, namespace string) error {
	g := &gatewayv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: translate.AutomaticWaypoint, Labels: map[string]string{translate.LabelManagedBy: translate.ManagedBy}},
		Spec: gatewayv1.GatewaySpec{
			GatewayClassName: translate.ClassWaypoint,
			Listeners:        []gatewayv1.Listener{{Name: "mesh", Port: mesh.HBONEPort, Protocol: "HBONE"}},
		},
	}
	var have gatewayv1.Gateway
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(g), &have); !apierrors.IsNotFound(err) {
		return err
	}
	err := r.client.Create(ctx, g, fieldOwner)
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
		return nil
	}
	return fmt.Errorf("create Gateway %s/%s: %w", namespace, g.Name, err)
}
