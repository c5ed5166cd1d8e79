// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// classKeeper keeps classes of ours from being deleted while Gateways name them, by the finalizer that the API has for it.
type classKeeper struct{ client client.Client }

// SetupWithManager follows classes, and the Gateways that name them.
func (k *classKeeper) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	classOf := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		g, ok := o.(*gatewayv1.Gateway)
		if !ok {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: string(g.Spec.GatewayClassName)}}}
	})
	return ctrl.NewControllerManagedBy(mgr).Named("gatewayclass-finalizer").
		For(&gatewayv1.GatewayClass{}).Watches(&gatewayv1.Gateway{}, classOf).WatchesRawSource(news.source()).Complete(k)
}

// Reconcile sets or takes away the finalizer of one class. On one that became another controller's it is that one's business.
func (k *classKeeper) Reconcile(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
	var class gatewayv1.GatewayClass
	if err := k.client.Get(ctx, r.NamespacedName, &class); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if class.Spec.ControllerName != translate.ControllerName {
		return ctrl.Result{}, nil
	}
	var all gatewayv1.GatewayList
	if err := k.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, err
	}
	before := class.DeepCopy()
	if slices.ContainsFunc(all.Items, func(g gatewayv1.Gateway) bool { return string(g.Spec.GatewayClassName) == class.Name }) {
		if class.DeletionTimestamp.IsZero() { // none may be added any more
			controllerutil.AddFinalizer(&class, gatewayv1.GatewayClassFinalizerGatewaysExist)
		}
	} else {
		controllerutil.RemoveFinalizer(&class, gatewayv1.GatewayClassFinalizerGatewaysExist)
	}
	if slices.Equal(before.Finalizers, class.Finalizers) {
		return ctrl.Result{}, nil
	}
	err := k.client.Patch(ctx, &class, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), fieldOwner)
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictWait}, nil
	}
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("write finalizers of GatewayClass %s: %w", class.Name, err)
	}
	return ctrl.Result{}, nil
}
