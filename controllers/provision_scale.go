// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"

	appsv1 "k8s.io/api/apps/v1"
)

const (
	// gatewayMinReplicas is how many pods a gateway has at least: one may go at any time.
	gatewayMinReplicas = 2
	// gatewayMaxReplicas is how many it may have if nobody says otherwise.
	gatewayMaxReplicas = 10
	// gatewayTargetCPU is how much CPU each pod shall use: one core less a quarter for the time that a new pod takes to come. It is a quantity
	// and no share of what the pod requests, so that a small request, which any cluster can grant, does not mean many pods.
	gatewayTargetCPU = "750m"
	// gatewayShrinkAfter is how long less must have been enough before a pod is taken away, in seconds: its streams have the drain time to
	// end, and those that do not are cut, so that pods shall not come and go with each wave.
	gatewayShrinkAfter = 600
)

// running is what there is already; zero: nothing.
type running struct {
	replicas   int32
	version    string   // resource version of the Deployment; "": there is none
	scaler     bool     // an autoscaler of somebody else's has the name of ours, and decides how many pods there are
	clusterIPs []string // of the Service
}

func runningOf(d *appsv1.Deployment, s *corev1.Service, scaler bool) running {
	out := running{scaler: scaler}
	if d.UID != "" && d.Spec.Replicas != nil {
		out.replicas, out.version = *d.Spec.Replicas, d.ResourceVersion
	}
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		out.clusterIPs = s.Spec.ClusterIPs
	}
	return out
}

// fixed says that the overlay decides how many pods there are.
func (p provisioner) fixed() bool { return p.overlay.Replicas > 0 }

// scales says that our HorizontalPodAutoscaler decides how many pods there are. It does so unless the overlay fixes their number, or somebody else decides. Where nothing measures
// CPU it keeps the number between its bounds all the same, and says on itself that it cannot do more.
func (p provisioner) scales(now running) bool {
	return !p.fixed() && !p.overlay.ScaledByOthers && !now.scaler
}

func (p provisioner) bounds() (least, most int32) {
	least, most = p.overlay.MinReplicas, p.overlay.MaxReplicas
	if least == 0 {
		least = gatewayMinReplicas
		if most > 0 {
			least = min(least, most)
		}
	}
	return least, cmp.Or(most, max(least, gatewayMaxReplicas))
}

// replicas is how many pods there shall be now. Where the autoscaler decides it is what the autoscaler last said, so that to own all of the
// Deployment does not mean to undo that; whoever applies it must make sure that nothing else was said since. Somebody else knows bounds of their own, and may want none.
func (p provisioner) replicas(now running) int32 {
	if p.fixed() {
		return p.overlay.Replicas
	}
	if !p.scales(now) && now.version != "" {
		return now.replicas
	}
	least, most := p.bounds()
	return min(max(now.replicas, least), most)
}

func (p provisioner) autoscaler() *autoscalingv2ac.HorizontalPodAutoscalerApplyConfiguration {
	least, most := p.bounds()
	return autoscalingv2ac.HorizontalPodAutoscaler(p.name, p.namespace).
		WithLabels(p.labels()).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithOwnerReferences(p.owner()).
		WithSpec(autoscalingv2ac.HorizontalPodAutoscalerSpec().
			WithScaleTargetRef(autoscalingv2ac.CrossVersionObjectReference().
				WithAPIVersion(appsv1.SchemeGroupVersion.String()).WithKind("Deployment").WithName(p.name)).
			WithMinReplicas(least).WithMaxReplicas(most).
			WithMetrics(autoscalingv2ac.MetricSpec().WithType(autoscalingv2.ResourceMetricSourceType).
				WithResource(autoscalingv2ac.ResourceMetricSource().WithName(corev1.ResourceCPU).
					WithTarget(autoscalingv2ac.MetricTarget().WithType(autoscalingv2.AverageValueMetricType).
						WithAverageValue(resource.MustParse(cmp.Or(p.overlay.TargetCPU, gatewayTargetCPU)))))).
			WithBehavior(autoscalingv2ac.HorizontalPodAutoscalerBehavior().
				WithScaleDown(autoscalingv2ac.HPAScalingRules().WithStabilizationWindowSeconds(gatewayShrinkAfter).
					WithSelectPolicy(autoscalingv2.MinChangePolicySelect).
					WithPolicies(autoscalingv2ac.HPAScalingPolicy().WithType(autoscalingv2.PodsScalingPolicy).WithValue(1).WithPeriodSeconds(60)))))
}
