// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// RootReconciler keeps the ConfigMap with the root in every namespace where something of ours runs. Its requests name namespaces.
type RootReconciler struct {
	client client.Client
	signer func() *ca.Signer
	wanted func(namespace string) bool
}

// SetupWithManager follows the ConfigMaps, so that an edited or deleted one is put back.
func (r *RootReconciler) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	return ctrl.NewControllerManagedBy(mgr).Named("rootcert").
		Watches(&corev1.ConfigMap{}, toNamespace(rootCertName)).
		WatchesRawSource(news.source()).
		Complete(r)
}

// Reconcile writes the ConfigMap of one namespace.
func (r *RootReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	signer := r.signer()
	if signer == nil || !r.wanted(req.Name) {
		return ctrl.Result{}, nil
	}
	var there corev1.ConfigMap
	if err := r.client.Get(ctx, client.ObjectKey{Namespace: req.Name, Name: rootCertName}, &there); err == nil && there.Data[rootCertKey] == signer.RootPEM() {
		return ctrl.Result{}, nil
	}
	object := corev1ac.ConfigMap(rootCertName, req.Name).WithData(map[string]string{rootCertKey: signer.RootPEM()})
	err := r.client.Apply(ctx, object, fieldOwner, client.ForceOwnership)
	if err != nil && !apierrors.IsNotFound(err) { // not found: the namespace is gone
		return ctrl.Result{}, fmt.Errorf("apply ConfigMap %s/%s: %w", req.Name, rootCertName, err)
	}
	return ctrl.Result{}, nil
}
