// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

const (
	// conditionScaled is on a Gateway while another autoscaler than ours scales its pods, too, or none does that should.
	conditionScaled = "isthmus.dev/Scaled"
	// reasonAmbiguous is the reason of the former, and of Kubernetes for an autoscaler that does nothing, as there are two.
	reasonAmbiguous = "AmbiguousSelector"
	// reasonNameTaken is the reason of the latter.
	reasonNameTaken = "NameTaken"
	// maxRivals is how many autoscalers of a namespace are looked at for one that scales a gateway.
	maxRivals = 500
	// maxNamed is how many of them, or of anything, are named: a condition's message has 32 KiB, and their names would have 124.
	maxNamed = 5
)

// unscaled is what is said of a Gateway that is not scaled as it is asked for; the zero value: it is. It is provisioned all the same.
type unscaled struct{ reason, message string }

// ambiguous says that Kubernetes has found another autoscaler for the pods of one.
func ambiguous(s *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(s.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionFalse && c.Reason == reasonAmbiguous
	})
}

// rivals names the autoscalers of others that say how many pods a Gateway has, although that is for us to say, or that keep ours from saying it. They are looked for when there is a sign of one, and then until there is none: ours
// says that it is not the only one, or somebody has changed a number that is fixed.
func (r *GatewayReconciler) rivals(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan, now running) (unscaled, error) {
	p := provisioner{overlay: overlayOf(plan)}
	switch {
	case p.fixed():
		if (now.version == "" || now.replicas == p.overlay.Replicas) && r.obstacles.rivals(gateway).reason != reasonAmbiguous {
			return unscaled{}, nil
		}
	case p.scales(now):
		var ours autoscalingv2.HorizontalPodAutoscaler
		err := r.client.Get(ctx, client.ObjectKey{Namespace: gateway.Namespace, Name: plan.Name}, &ours)
		if client.IgnoreNotFound(err) != nil {
			return unscaled{}, fmt.Errorf("look for %T: %w", &ours, err)
		} else if !ambiguous(&ours) {
			return unscaled{}, nil
		}
	case p.overlay.ScaledByOthers:
		return unscaled{}, nil
	default:
		return r.nameTaken(ctx, gateway, plan)
	}
	var all autoscalingv2.HorizontalPodAutoscalerList
	if err := r.reader.List(ctx, &all, client.InNamespace(gateway.Namespace), client.Limit(maxRivals)); err != nil {
		return unscaled{}, fmt.Errorf("look for other autoscalers: %w", err)
	}
	var names []string
	for i := range all.Items {
		s := &all.Items[i]
		if scales(s, plan.Name) && !metav1.IsControlledBy(s, gateway) {
			names = append(names, s.Name)
		}
	}
	switch {
	case len(names) > 0:
	case p.fixed():
		return unscaled{}, nil
	default: // which one it is Kubernetes says, in another order each time
		return unscaled{reasonAmbiguous, fmt.Sprintf("HorizontalPodAutoscaler %s of namespace %s does nothing, as the Gateway's pods are also selected by what another one scales, which its condition ScalingActive names: change that one's selector, or set autoscaling: {external: true} in the Gateway's parameters",
			plan.Name, gateway.Namespace)}, nil
	}
	return unscaled{reasonAmbiguous, fmt.Sprintf("HorizontalPodAutoscaler %s of namespace %s says how many pods Deployment %s has, and so does this Gateway: delete it, or set autoscaling: {external: true} in the Gateway's parameters",
		nameSome(names), gateway.Namespace, plan.Name)}, nil
}

// scales says whether an autoscaler is for a Deployment of its namespace.
func scales(s *autoscalingv2.HorizontalPodAutoscaler, deployment string) bool {
	target := s.Spec.ScaleTargetRef
	group := schema.FromAPIVersionAndKind(target.APIVersion, target.Kind).Group
	return group == appsv1.GroupName && target.Kind == "Deployment" && target.Name == deployment
}

// nameTaken is about a Gateway for which there is no autoscaler of ours, as somebody else's has its name: that one is to scale the Gateway, and may well be for something else.
func (r *GatewayReconciler) nameTaken(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan) (unscaled, error) {
	var theirs autoscalingv2.HorizontalPodAutoscaler
	err := r.look(ctx, client.ObjectKey{Namespace: gateway.Namespace, Name: plan.Name}, &theirs)
	switch {
	case apierrors.IsNotFound(err) || err == nil && scales(&theirs, plan.Name):
		return unscaled{}, nil
	case err != nil:
		return unscaled{}, fmt.Errorf("look for %T: %w", &theirs, err)
	}
	return unscaled{reasonNameTaken, fmt.Sprintf("HorizontalPodAutoscaler %s of namespace %s has the name of the one that would be made for the Gateway, and is for something else than Deployment %s: nobody says how many pods that has. Rename it, or set replicas or autoscaling: {external: true} in the Gateway's parameters",
		plan.Name, gateway.Namespace, plan.Name)}, nil
}

// nameSome lists names in their order, the first of them if there are many.
func nameSome(names []string) string {
	slices.Sort(names)
	named := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return named
}
