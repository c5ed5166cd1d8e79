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

// handoverLook is how soon it is looked again whether pods that were told to end have.
const handoverLook = 5 * time.Second

// handovers remember since when Gateways have had a Service of their own in place of what was made for them. A process that leads anew counts from its own beginning: what was made then stays longer.
type handovers struct {
	mu sync.Mutex
	of map[types.NamespacedName]handover
}

type handover struct {
	uid   types.UID // of the Gateway
	since time.Time
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
		at = handover{gateway.GetUID(), time.Now()}
		h.of[name] = at
	}
	return of - time.Since(at.since)
}

// forget is for a Gateway that has no Service of its own, or none that can take the place of what was made.
func (h *handovers) forget(name types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, name)
}

// handOver takes away what was made for a Gateway that has a Service of its own now, whose addresses are in its status, so that nobody loses a connection who came by the old ones. First it all goes on as it
// was, for as long as a pod that ends does: others learn of the new addresses meanwhile, and names of old ones are forgotten. Then its pods end, as pods do that end. What leads to them goes last, as a load balancer
// takes all connections with it.
func (r *GatewayReconciler) handOver(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan) (ctrl.Result, error) {
	deployment := &appsv1.Deployment{}
	if runs, err := r.has(ctx, gateway, deployment); err != nil {
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
	if leads, err := r.has(ctx, gateway, &corev1.Service{}); err != nil {
		return ctrl.Result{}, err
	} else if leads {
		if some, err := r.podsOf(ctx, gateway); err != nil {
			return ctrl.Result{}, err
		} else if some {
			return ctrl.Result{RequeueAfter: handoverLook}, nil
		}
	}
	gone := provisioned()
	if plan.ServiceAccount == plan.Name { // it is that of the pods that somebody else runs, too
		gone = slices.DeleteFunc(gone, isAccount)
	}
	return ctrl.Result{}, r.release(ctx, r.reader, gateway, gone...)
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

// podsOf says whether pods that were made for a Gateway run still.
func (r *GatewayReconciler) podsOf(ctx context.Context, gateway *gatewayv1.Gateway) (bool, error) {
	var pods corev1.PodList
	label := client.MatchingLabels{gatewayNameLabel: translate.ResourceName(gateway.Name)}
	if err := r.reader.List(ctx, &pods, client.InNamespace(gateway.Namespace), label); err != nil {
		return false, fmt.Errorf("look for pods: %w", err)
	}
	return slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool {
		reduced := world.ReducePod("", &p)
		return reduced != nil && translate.MadeFor(gateway.Name, reduced)
	}), nil
}
