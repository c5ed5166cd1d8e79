// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// GatewayReconciler keeps what runs for a Gateway as its plan says. A Gateway that is no longer accepted keeps what it has (the last good
// configuration goes on serving); one that became another controller's loses it; that of a deleted one is collected by its owner references.
type GatewayReconciler struct {
	client   client.Client
	plan     func(namespace, name string) *translate.GatewayPlan
	reader   client.Reader // sees objects that the cache leaves out because they are not ours
	settings ProvisionSettings
}

// SetupWithManager follows Gateways and what was made for them: whatever drifts is put back.
func (r *GatewayReconciler) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	// Deployments and budgets report progress in their status, which is nothing to do for us.
	spec := builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))
	return ctrl.NewControllerManagedBy(mgr).Named("gateway").
		For(&gatewayv1.Gateway{}).
		Owns(&appsv1.Deployment{}, spec).
		Owns(&policyv1.PodDisruptionBudget{}, spec).
		Owns(&corev1.Service{}).
		Owns(&corev1.ServiceAccount{}).
		WatchesRawSource(news.source()).
		Complete(r)
}

// Reconcile applies the plan of one Gateway.
func (r *GatewayReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var gateway gatewayv1.Gateway
	if err := r.client.Get(ctx, req.NamespacedName, &gateway); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	plan := r.plan(req.Namespace, req.Name)
	if plan == nil {
		return ctrl.Result{}, r.releaseUnlessOurs(ctx, &gateway)
	}
	if plan.UID != string(gateway.UID) {
		return ctrl.Result{}, nil // about an earlier Gateway of this name; news of this one are on their way
	}
	if err := r.refuseForeign(ctx, &gateway, plan); err != nil {
		return ctrl.Result{}, err
	}
	var errs []error
	if err := r.dropForeignPorts(ctx, plan); err != nil {
		errs = append(errs, err)
	}
	for _, object := range provision(plan, r.settings) {
		if err := r.client.Apply(ctx, object, fieldOwner, client.ForceOwnership); err != nil {
			errs = append(errs, fmt.Errorf("apply %T: %w", object, err))
		}
	}
	return ctrl.Result{}, errors.Join(errs...)
}

// refuseForeign fails if an object that the Gateway needs exists and is somebody else's: applying would take it over, and it would go
// with the Gateway. An object without an owner that has our labels was left behind by an earlier Gateway of the name, and is taken.
func (r *GatewayReconciler) refuseForeign(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan) error {
	objects := []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &policyv1.PodDisruptionBudget{}}
	if plan.ServiceAccount == gateway.Name {
		objects = append(objects, &corev1.ServiceAccount{})
	}
	var errs []error
	for _, object := range objects {
		err := r.client.Get(ctx, client.ObjectKeyFromObject(gateway), object)
		if apierrors.IsNotFound(err) {
			err = r.reader.Get(ctx, client.ObjectKeyFromObject(gateway), object)
		}
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			errs = append(errs, fmt.Errorf("look for %T: %w", object, err))
		case !mayTake(object, gateway):
			errs = append(errs, fmt.Errorf("%T %s/%s exists and was not made for Gateway %s: rename one of them", object, gateway.Namespace, gateway.Name, gateway.Name))
		}
	}
	return errors.Join(errs...)
}

func mayTake(object client.Object, gateway *gatewayv1.Gateway) bool {
	if metav1.GetControllerOf(object) != nil {
		return metav1.IsControlledBy(object, gateway)
	}
	labels := object.GetLabels()
	return labels[translate.LabelManagedBy] == translate.ManagedBy && labels[gatewayNameLabel] == gateway.Name
}

// dropForeignPorts takes ports out of the Service that are not in the plan. Applying alone would keep those that another writer made,
// or fail if one of them has a name of ours.
func (r *GatewayReconciler) dropForeignPorts(ctx context.Context, plan *translate.GatewayPlan) error {
	var service corev1.Service
	err := r.client.Get(ctx, client.ObjectKey{Namespace: plan.Key.Namespace, Name: plan.Key.Name}, &service)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	planned := func(p corev1.ServicePort) bool {
		return p.Protocol == corev1.ProtocolTCP &&
			slices.ContainsFunc(plan.Listeners, func(l mesh.Listener) bool { return int32(l.Port) == p.Port })
	}
	before := service.DeepCopy()
	service.Spec.Ports = slices.DeleteFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return !planned(p) })
	if len(service.Spec.Ports) == len(before.Spec.Ports) {
		return nil
	}
	if len(service.Spec.Ports) == 0 { // a Service must have one; apply makes it agree in the rest
		l := plan.Listeners[0]
		service.Spec.Ports = []corev1.ServicePort{{Name: portName(l.Name, l.Port), Port: int32(l.Port), TargetPort: intstr.FromInt32(int32(l.Bind)), Protocol: corev1.ProtocolTCP}}
	}
	if err := r.client.Patch(ctx, &service, client.MergeFrom(before), fieldOwner); err != nil {
		return fmt.Errorf("take foreign ports out of Service %s/%s: %w", service.Namespace, service.Name, err)
	}
	return nil
}

// releaseUnlessOurs deletes what was made for a Gateway whose class is another controller's now.
func (r *GatewayReconciler) releaseUnlessOurs(ctx context.Context, gateway *gatewayv1.Gateway) error {
	var class gatewayv1.GatewayClass
	err := r.client.Get(ctx, client.ObjectKey{Name: string(gateway.Spec.GatewayClassName)}, &class)
	if err != nil || class.Spec.ControllerName == translate.ControllerName {
		return client.IgnoreNotFound(err) // a class that is missing may come back
	}
	var errs []error
	for _, object := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &policyv1.PodDisruptionBudget{}, &corev1.ServiceAccount{}} {
		err := r.client.Get(ctx, client.ObjectKeyFromObject(gateway), object)
		if err == nil && metav1.IsControlledBy(object, gateway) && object.GetDeletionTimestamp() == nil {
			uid := object.GetUID()
			err = r.client.Delete(ctx, object, client.Preconditions{UID: &uid})
		}
		if client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("delete %T: %w", object, err))
		}
	}
	return errors.Join(errs...)
}

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
