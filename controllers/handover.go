// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// handoverLook is how soon it is looked again whether pods that were told to end have.
	handoverLook = 5 * time.Second
	// handoverGrace is for how long a pod is waited for whose time to end is over. Nobody is served by it any more: its node is lost, or something keeps the object.
	handoverGrace = time.Minute
)

// handovers remember since when Gateways have had a Service of their own in place of what was made for them. A process that leads anew counts from its own beginning: what was made then stays longer.
type handovers struct {
	mu sync.Mutex
	of map[types.NamespacedName]handover
}

type handover struct {
	uid   types.UID // of the Gateway
	since time.Time
	waits string // what was said last of what is waited for
}

// left is how much of a time is left since a Gateway was handed over, which is now if nobody has said so before.
func (h *handovers) left(gateway client.Object, of time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := client.ObjectKeyFromObject(gateway)
	at, had := h.of[name]
	if !had || at.uid != gateway.GetUID() {
		if h.of == nil {
			h.of = map[types.NamespacedName]handover{}
		}
		at = handover{uid: gateway.GetUID(), since: time.Now()}
		h.of[name] = at
	}
	return of - time.Since(at.since)
}

// saying notes what a Gateway waits for, and says whether it is something else than before.
func (h *handovers) saying(gateway client.Object, waits string) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := client.ObjectKeyFromObject(gateway)
	at := h.of[name]
	if at.uid != gateway.GetUID() {
		at = handover{uid: gateway.GetUID(), since: time.Now()}
	}
	if changed = at.waits != waits; changed {
		if h.of == nil {
			h.of = map[types.NamespacedName]handover{}
		}
		at.waits = waits
		h.of[name] = at
	}
	return changed
}

// forget is for a Gateway that has no Service of its own, or none that can take the place of what was made.
func (h *handovers) forget(name types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, name)
}

// handOver takes away what was made for a Gateway that has a Service of its own now, whose addresses are in its status, so that nobody loses a connection who came by the old ones. First it all goes on as it
// was, for as long as a pod that ends does: others learn of the new addresses meanwhile, and names of old ones are forgotten. Then its pods end, as pods do that end. What leads to them goes last, as a load balancer
// takes all connections with it; but for a pod that does not end it does not stay for ever.
func (r *GatewayReconciler) handOver(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan) (ctrl.Result, error) {
	deployment := &appsv1.Deployment{}
	runs, err := r.has(ctx, gateway, deployment)
	if err != nil {
		return ctrl.Result{}, err
	} else if runs {
		ending := time.Duration(ptr.Deref(deployment.Spec.Template.Spec.TerminationGracePeriodSeconds, 0))*time.Second - gatewayEnding // by its parameters, which the Gateway does not have any more
		if left := r.handovers.left(gateway, ending); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
		if err := r.release(ctx, r.reader, gateway, &autoscalingv2.HorizontalPodAutoscaler{}, &appsv1.Deployment{}); err != nil {
			return ctrl.Result{}, err
		}
	}
	stay := ""
	if !runs { // also if what led to them is gone
		wait, barred, err := r.endOrphans(ctx, gateway)
		if err != nil || wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, err
		}
		if len(barred) > 0 {
			stay = "; the controller may not delete ReplicaSet " + nameSome(barred) + ", whose Deployment is gone"
		}
	}
	if leads, err := r.has(ctx, gateway, &corev1.Service{}); err != nil {
		return ctrl.Result{}, err
	} else if leads {
		pods, err := r.podsOf(ctx, gateway)
		if err != nil {
			return ctrl.Result{}, err
		}
		waits, lost := awaited(pods, time.Now())
		if waits != "" {
			if waits += stay; !runs && r.handovers.saying(gateway, waits) {
				r.tellOfHandover(gateway, corev1.EventTypeNormal, "WaitsForPods", "what was made before leads to the Gateway, too, until its pods have ended: "+waits)
			}
			return ctrl.Result{RequeueAfter: handoverLook}, nil
		}
		if lost != "" {
			r.tellOfHandover(gateway, corev1.EventTypeWarning, "PodsDoNotEnd", "what was made before goes, although pods have not ended that should have long ago: "+lost)
		}
	}
	gone := provisioned()
	if plan.ServiceAccount == plan.Name { // it is that of the pods that somebody else runs, too
		gone = slices.DeleteFunc(gone, isAccount)
	}
	if err := r.release(ctx, r.reader, gateway, gone...); err != nil || stay == "" {
		return ctrl.Result{}, err
	}
	if r.handovers.saying(gateway, stay) {
		r.tellOfHandover(gateway, corev1.EventTypeWarning, "PodsDoNotEnd", "nobody tells pods to end that were made before"+stay)
	}
	return ctrl.Result{RequeueAfter: refusedWait}, nil
}

// has says whether an object that was made for a Gateway is there, and nobody has deleted it.
func (r *GatewayReconciler) has(ctx context.Context, gateway *gatewayv1.Gateway, object client.Object) (bool, error) {
	err := r.look(ctx, client.ObjectKey{Namespace: gateway.Namespace, Name: translate.ResourceName(gateway.Name)}, object)
	if apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("look for %T: %w", object, err)
	}
	return metav1.IsControlledBy(object, gateway) && object.GetDeletionTimestamp() == nil, nil
}

// podsOf are the pods that were made for a Gateway and run still.
func (r *GatewayReconciler) podsOf(ctx context.Context, gateway *gatewayv1.Gateway) ([]corev1.Pod, error) {
	var pods corev1.PodList
	label := client.MatchingLabels{gatewayNameLabel: translate.ResourceName(gateway.Name)}
	if err := r.reader.List(ctx, &pods, client.InNamespace(gateway.Namespace), label); err != nil {
		return nil, fmt.Errorf("look for pods: %w", err)
	}
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		reduced := world.ReducePod("", &p)
		return reduced == nil || !translate.MadeFor(gateway.Name, reduced)
	}), nil
}

// awaited says what is waited for of a Gateway's pods, "" for nothing, and which of them are not waited for any more, as they should have ended long ago. The API server writes down by when a pod
// has to have ended, so a process that leads anew knows it, too.
func awaited(pods []corev1.Pod, now time.Time) (waits, lost string) {
	var untold, overdue []string
	var last time.Time
	ending := false
	for i := range pods {
		switch end := pods[i].DeletionTimestamp; {
		case end == nil:
			untold = append(untold, pods[i].Name)
		case now.Sub(end.Time) > handoverGrace:
			overdue = append(overdue, pods[i].Name)
		default:
			if ending = true; end.After(last) {
				last = end.Time
			}
		}
	}
	switch {
	case len(untold) > 0:
		waits = "nobody has told some to end: " + nameSome(untold)
	case ending:
		waits = "until " + last.Add(handoverGrace).UTC().Format(time.RFC3339) + " at the latest"
	case len(overdue) > 0:
		lost = nameSome(overdue)
	}
	return waits, lost
}

func (r *GatewayReconciler) tellOfHandover(gateway *gatewayv1.Gateway, kind, reason, what string) {
	if r.events != nil {
		r.events.Eventf(gateway, nil, kind, reason, "HandOver", "%s", bounded(what))
	}
}
