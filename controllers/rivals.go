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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

const (
	// conditionScaled is on a Gateway while another autoscaler than ours scales its pods, too.
	conditionScaled = "isthmus.dev/Scaled"
	// reasonAmbiguous is the reason of that, and of Kubernetes for an autoscaler that does nothing, as there are two.
	reasonAmbiguous = "AmbiguousSelector"
	// maxRivals is how many autoscalers of a namespace are looked at for one that scales a gateway.
	maxRivals = 500
	// maxNamed is how many of them, or of anything, are named: a condition's message has 32 KiB, and their names would have 124.
	maxNamed = 5
)

// ambiguous says that Kubernetes has found another autoscaler for the pods of one.
func ambiguous(s *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(s.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionFalse && c.Reason == reasonAmbiguous
	})
}

// rivals names the autoscalers of others that say how many pods a Gateway has, although that is for us to say; "": there is none. They are looked for when there is a sign of one, and then until there is none: ours
// says that it is not the only one, or somebody has changed a number that is fixed.
func (r *GatewayReconciler) rivals(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan, now running) (string, error) {
	p := provisioner{overlay: overlayOf(plan)}
	switch {
	case p.fixed():
		if (now.version == "" || now.replicas == p.overlay.Replicas) && r.obstacles.rivals(gateway) == "" {
			return "", nil
		}
	case p.scales(now):
		var ours autoscalingv2.HorizontalPodAutoscaler
		err := r.client.Get(ctx, client.ObjectKey{Namespace: gateway.Namespace, Name: plan.Name}, &ours)
		if client.IgnoreNotFound(err) != nil {
			return "", fmt.Errorf("look for %T: %w", &ours, err)
		} else if !ambiguous(&ours) {
			return "", nil
		}
	default:
		return "", nil
	}
	var all autoscalingv2.HorizontalPodAutoscalerList
	if err := r.reader.List(ctx, &all, client.InNamespace(gateway.Namespace), client.Limit(maxRivals)); err != nil {
		return "", fmt.Errorf("look for other autoscalers: %w", err)
	}
	var names []string
	for i := range all.Items {
		s := &all.Items[i]
		target := s.Spec.ScaleTargetRef
		group := schema.FromAPIVersionAndKind(target.APIVersion, target.Kind).Group
		if group == appsv1.GroupName && target.Kind == "Deployment" && target.Name == plan.Name && !metav1.IsControlledBy(s, gateway) {
			names = append(names, s.Name)
		}
	}
	switch {
	case len(names) > 0:
	case p.fixed():
		return "", nil
	default: // which one it is Kubernetes says, in another order each time
		return fmt.Sprintf("HorizontalPodAutoscaler %s of namespace %s does nothing, as the Gateway's pods are also selected by what another one scales, which its condition ScalingActive names: change that one's selector, or set autoscaling: {external: true} in the Gateway's parameters",
			plan.Name, gateway.Namespace), nil
	}
	return fmt.Sprintf("HorizontalPodAutoscaler %s of namespace %s says how many pods Deployment %s has, and so does this Gateway: delete it, or set autoscaling: {external: true} in the Gateway's parameters",
		nameSome(names), gateway.Namespace, plan.Name), nil
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
