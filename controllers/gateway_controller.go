// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

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
	known    <-chan struct{}      // closed once plans are made by all that there is in our cluster; nothing is done before
	events   events.EventRecorder // nil: tells nobody
	// obstacles are noted, and who writes the Gateway's status, and those of its sets, is told when they change.
	obstacles *obstacles
	changed   func(gateway types.NamespacedName)
	handovers handovers
}

// provisioned makes an empty object of each kind that is made for a Gateway.
func provisioned() []client.Object {
	return []client.Object{
		&appsv1.Deployment{}, &corev1.Service{}, &policyv1.PodDisruptionBudget{}, &corev1.ServiceAccount{}, &autoscalingv2.HorizontalPodAutoscaler{},
	}
}

// SetupWithManager follows Gateways and what was made for them: whatever drifts is put back.
func (r *GatewayReconciler) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	// These report progress in their status, which is nothing to do for us. That of the Gateway itself changes with each route that comes or goes.
	spec := builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))
	made := builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}, ownersChanged))
	return ctrl.NewControllerManagedBy(mgr).Named("gateway").
		For(&gatewayv1.Gateway{}, spec).
		Owns(&appsv1.Deployment{}, made).
		Owns(&policyv1.PodDisruptionBudget{}, made).
		// A HorizontalPodAutoscaler has no generation, and its status changes with each measurement.
		Owns(&autoscalingv2.HorizontalPodAutoscaler{}, builder.WithPredicates(autoscalerChanged)).
		Owns(&corev1.Service{}).
		Owns(&corev1.ServiceAccount{}).
		WatchesRawSource(news.source()).
		Complete(r)
}

// ownersChanged lets pass that something belongs to others now: what is nobody's is not collected with its Gateway.
var ownersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !equality.Semantic.DeepEqual(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences())
}}

// autoscalerChanged lets pass what somebody else than the measurements changed, and that there is another one.
var autoscalerChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, ok := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
	is, ok2 := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
	return !ok || !ok2 || !equality.Semantic.DeepEqual(was.Spec, is.Spec) || !maps.Equal(was.Labels, is.Labels) ||
		!maps.Equal(was.Annotations, is.Annotations) || ambiguous(was) != ambiguous(is) || ownersChanged.Update(e)
}}

// Reconcile applies the plan of one Gateway, once it is made by all that there is: by a half of it a port might be taken from its Service for a moment, or what is to be kept deleted.
func (r *GatewayReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	select {
	case <-r.known:
	case <-ctx.Done():
		return ctrl.Result{}, ctx.Err()
	}
	var gateway gatewayv1.Gateway
	if err := r.client.Get(ctx, req.NamespacedName, &gateway); err != nil {
		if apierrors.IsNotFound(err) {
			r.obstacles.forget(req.NamespacedName)
			r.handovers.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	plan := r.plan(req.Namespace, req.Name)
	if plan == nil {
		if r.obstacles.forget(req.NamespacedName) {
			r.changed(req.NamespacedName)
		}
		return ctrl.Result{}, r.releaseUnlessOurs(ctx, &gateway)
	}
	if plan.UID != string(gateway.UID) {
		return ctrl.Result{}, nil // about an earlier Gateway of this name; news of this one are on their way
	}
	if plan.Unmanaged && !plan.Kept {
		r.found(&gateway, namesakes{})
		return r.handOver(ctx, &gateway, plan)
	}
	r.handovers.forget(req.NamespacedName)
	if plan.Kept { // as it is, but for a Deployment that is gone: without pods it would go on for nobody
		runs, err := r.has(ctx, &gateway, &appsv1.Deployment{})
		if err != nil {
			return r.unseen(ctx, &gateway, namesakes{}, err)
		}
		if runs {
			r.found(&gateway, namesakes{})
			return ctrl.Result{}, nil
		}
	}
	theirs, err := r.namesakes(ctx, &gateway, plan)
	if err != nil {
		return r.unseen(ctx, &gateway, theirs, err)
	}
	if theirs.wait() > 0 {
		if plan.Kept { // who runs pods of their own may well have given them that name: the Gateway is no less acceptable
			r.refused(&gateway, gatewayv1.GatewayReasonPending, notMadeAgain+theirs.text(), r.obstacles.rivals(&gateway))
		} else {
			r.found(&gateway, theirs)
		}
		return ctrl.Result{RequeueAfter: theirs.wait()}, nil
	}
	rivals, err := r.provision(ctx, &gateway, plan, theirs.scaler)
	reason, refused := notTaken(err)
	switch {
	case err == nil:
		if r.found(&gateway, namesakes{rivals: rivals}); theirs.scaler || rivals != (unscaled{}) {
			return ctrl.Result{RequeueAfter: scalerWait}, nil
		}
	case apierrors.IsConflict(err): // the autoscaler was faster, or the cache is behind
		if rivals != (unscaled{}) {
			r.found(&gateway, namesakes{rivals: rivals}) // the next look may see no sign of them: what they changed is put back
		}
		return ctrl.Result{RequeueAfter: conflictWait}, nil
	case refused:
		r.refused(&gateway, reason, err.Error(), rivals)
		return ctrl.Result{RequeueAfter: refusedWait}, nil
	case ctx.Err() == nil:
		r.tried(ctx, &gateway)
		r.tell(&gateway, err.Error())
	}
	return ctrl.Result{}, err
}

// scalerWait is how soon it is looked again whether an autoscaler of somebody else's is still there, without which nobody scales the gateway, or that undoes what is said of it: nobody tells us of objects that
// are not ours.
const scalerWait = time.Minute

// refusedWait is how soon something is asked of the API server again that it refused: nobody tells us when there is room, or when we may.
const refusedWait = 30 * time.Second

// notTaken says whether an API server does not take what it was asked, and with what reason that is said: it is not valid, as it changes what cannot change or asks for what somebody
// else has; or it may not be, as for a quota. Who asks may be able to do something about either.
func notTaken(err error) (reason gatewayv1.GatewayConditionReason, refused bool) {
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return gatewayv1.GatewayReasonInvalid, true
	case apierrors.IsForbidden(err):
		return gatewayv1.GatewayReasonNoResources, true
	}
	return "", false
}

// unseen is for a Gateway of which it was not all seen what is in its way. What was seen and stays is so, whatever the rest. Without that nothing is known: what is said of it stays, also what an
// earlier process said, until it is seen. Only that we may not look is said, too: it does not pass by itself.
func (r *GatewayReconciler) unseen(ctx context.Context, gateway *gatewayv1.Gateway, theirs namesakes, err error) (ctrl.Result, error) {
	switch reason, refused := notTaken(err); {
	case ctx.Err() != nil:
	case refused:
		if r.obstacles.hide(gateway, theirs, reason, bounded(err.Error())) {
			r.changed(client.ObjectKeyFromObject(gateway))
			r.tell(gateway, err.Error())
		}
		return ctrl.Result{RequeueAfter: refusedWait}, nil
	case len(theirs.staying) > 0:
		r.found(gateway, theirs)
	}
	return ctrl.Result{}, err
}

// found notes what is in the way of a Gateway, and has it said if it is something else than before.
func (r *GatewayReconciler) found(gateway *gatewayv1.Gateway, theirs namesakes) {
	if !r.obstacles.note(gateway, theirs) {
		return
	}
	r.changed(client.ObjectKeyFromObject(gateway))
	if len(theirs.staying) > 0 {
		r.tell(gateway, theirs.text())
	}
}

// refused notes why what a Gateway needs is not made, and has it said if it is something else than before.
func (r *GatewayReconciler) refused(gateway *gatewayv1.Gateway, reason gatewayv1.GatewayConditionReason, why string, rivals unscaled) {
	if r.obstacles.refuse(gateway, reason, bounded(why), rivals) {
		r.changed(client.ObjectKeyFromObject(gateway))
		r.tell(gateway, why)
	}
}

// tried has what was found of a Gateway said that nothing is in the way of, although the API server could not be asked for all that it needs.
func (r *GatewayReconciler) tried(ctx context.Context, gateway *gatewayv1.Gateway) {
	if ctx.Err() == nil && r.obstacles.tried(gateway) {
		r.changed(client.ObjectKeyFromObject(gateway))
	}
}

func (r *GatewayReconciler) tell(gateway *gatewayv1.Gateway, what string) {
	if r.events == nil {
		return
	}
	r.events.Eventf(gateway, nil, corev1.EventTypeWarning, "NotProvisioned", "Provision", "%s", bounded(what))
}

// bounded cuts what becomes the note of an event, which may have 1024 bytes.
func bounded(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// provision applies the plan, and says which autoscalers scale the gateway, too. Where the API server refuses a part, the rest is left as it is: what is not wanted as a whole changes nothing.
func (r *GatewayReconciler) provision(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan, scaled bool) (rivals unscaled, _ error) {
	rivals = r.obstacles.rivals(gateway) // until they are looked for
	var errs []error
	if err := r.dropForeignPorts(ctx, plan); apierrors.IsConflict(err) {
		return unscaled{}, err // somebody was faster, or the cache is behind
	} else if err != nil {
		errs = append(errs, err)
	}
	if err := r.reclaim(ctx, client.ObjectKey{Namespace: plan.Key.Namespace, Name: plan.Name}); apierrors.IsConflict(err) {
		return unscaled{}, err
	} else if err != nil {
		errs = append(errs, err)
	}
	var deployment appsv1.Deployment
	var service corev1.Service
	for _, object := range []client.Object{&deployment, &service} {
		if err := r.look(ctx, client.ObjectKey{Namespace: gateway.Namespace, Name: plan.Name}, object); client.IgnoreNotFound(err) != nil {
			return rivals, fmt.Errorf("look for %T: %w", object, err)
		}
	}
	now := runningOf(&deployment, &service, scaled)
	if now.version == "" { // it was deleted, perhaps, and not what scaled it
		var scaler autoscalingv2.HorizontalPodAutoscaler
		if err := r.client.Get(ctx, client.ObjectKey{Namespace: gateway.Namespace, Name: plan.Name}, &scaler); client.IgnoreNotFound(err) != nil {
			return rivals, fmt.Errorf("look for %T: %w", &scaler, err)
		} else if metav1.IsControlledBy(&scaler, gateway) {
			now.replicas = scaler.Status.DesiredReplicas
		}
	}
	if found, err := r.rivals(ctx, gateway, plan, now); err != nil {
		errs = append(errs, err)
	} else {
		rivals = found
	}
	var conflict error
	unwanted := &autoscalingv2.HorizontalPodAutoscaler{}
	for _, object := range provision(plan, r.settings, now) {
		if _, ok := object.(*autoscalingv2ac.HorizontalPodAutoscalerApplyConfiguration); ok {
			unwanted = nil
		}
		err := r.client.Apply(ctx, object, fieldOwner, client.ForceOwnership)
		if _, refused := notTaken(err); refused {
			return rivals, fmt.Errorf(refuses+"%s: %w", strings.TrimSuffix(reflect.TypeOf(object).Elem().Name(), "ApplyConfiguration"), err)
		} else if apierrors.IsConflict(err) {
			conflict = err
		} else if err != nil {
			errs = append(errs, fmt.Errorf("apply %T: %w", object, err))
		}
	}
	if unwanted != nil { // before the next pod comes or goes by its word
		errs = append(errs, r.release(ctx, r.reader, gateway, unwanted))
	}
	if err := errors.Join(errs...); err != nil {
		return rivals, err
	}
	return rivals, conflict
}

// look gets an object, also one that the cache leaves out as somebody has taken our label from it.
func (r *GatewayReconciler) look(ctx context.Context, at client.ObjectKey, object client.Object) error {
	err := r.client.Get(ctx, at, object)
	if apierrors.IsNotFound(err) {
		err = r.reader.Get(ctx, at, object)
	}
	return err
}

// dropForeignPorts takes ports out of the Service that are not in the plan. Applying alone would keep those that another writer made,
// or fail if one of them has a name of ours.
func (r *GatewayReconciler) dropForeignPorts(ctx context.Context, plan *translate.GatewayPlan) error {
	if plan.Kept { // it stays as it is
		return nil
	}
	var service corev1.Service
	err := r.client.Get(ctx, client.ObjectKey{Namespace: plan.Key.Namespace, Name: plan.Name}, &service)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	planned := func(p corev1.ServicePort) bool {
		return slices.ContainsFunc(plan.Listeners, func(l mesh.Listener) bool { return int32(l.Port) == p.Port && protocolOf(l) == p.Protocol })
	}
	before := service.DeepCopy()
	service.Spec.Ports = slices.DeleteFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return !planned(p) })
	if len(service.Spec.Ports) == len(before.Spec.Ports) {
		return nil
	}
	if len(service.Spec.Ports) == 0 { // a Service must have one; apply makes it agree in the rest
		l := plan.Listeners[0]
		service.Spec.Ports = []corev1.ServicePort{{Name: portName(l, plan.Listeners), Port: int32(l.Port), TargetPort: intstr.FromInt32(int32(l.Bind)), Protocol: protocolOf(l)}}
	}
	// The list is written as a whole: one that we added since the cache saw it would go, and come back at another port of the nodes.
	if err := r.client.Patch(ctx, &service, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), fieldOwner); err != nil {
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
	return r.release(ctx, r.client, gateway, provisioned()...)
}

// release deletes those of some objects that were made for a Gateway, as far as from knows them: the cache leaves out those whose label somebody took. An autoscaler that is nobody's and has
// our labels is one of ours, too, left behind by an earlier Gateway: it would go on to say how many pods there are.
func (r *GatewayReconciler) release(ctx context.Context, from client.Reader, gateway *gatewayv1.Gateway, objects ...client.Object) error {
	var errs []error
	for _, object := range objects {
		err := from.Get(ctx, client.ObjectKey{Namespace: gateway.Namespace, Name: translate.ResourceName(gateway.Name)}, object)
		ours := err == nil && (metav1.IsControlledBy(object, gateway) || isScaler(object) && mayTake(object, gateway))
		if ours && object.GetDeletionTimestamp() == nil {
			uid := object.GetUID()
			err = r.client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		}
		if client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("delete %T: %w", object, err))
		}
	}
	return errors.Join(errs...)
}
