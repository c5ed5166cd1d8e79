// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestADeploymentComesBackAsLargeAsItWas: pods that were left behind are not told to end because somebody deleted what they were made of.
func TestADeploymentComesBackAsLargeAsItWas(t *testing.T) {
	g := eastwest("ns", "g")
	g.UID = "u"
	owned := []metav1.OwnerReference{{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: "g", UID: "u", Controller: new(true)}}
	for name, tc := range map[string]struct {
		owners  []metav1.OwnerReference
		said    int32
		overlay *world.Overlay
		want    int32
	}{
		"as its autoscaler said":               {owned, 7, nil, 7},
		"within what it may say now":           {owned, 7, &world.Overlay{MaxReplicas: 5}, 5},
		"which has not said anything":          {owned, 0, nil, gatewayMinReplicas},
		"somebody else's says nothing of that": {nil, 7, nil, gatewayMinReplicas},
		"where the number is fixed":            {owned, 7, &world.Overlay{Replicas: 3}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			scaler := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g", OwnerReferences: tc.owners}}
			scaler.Status.DesiredReplicas = tc.said
			var got *int32
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(g, scaler).WithInterceptorFuncs(interceptor.Funcs{
				Apply: func(_ context.Context, _ client.WithWatch, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
					if d, is := o.(*appsv1ac.DeploymentApplyConfiguration); is {
						got = d.Spec.Replicas
					}
					return nil
				},
			}).Build()
			r := &GatewayReconciler{client: c, reader: c, obstacles: &obstacles{}, settings: ProvisionSettings{Config: hostileConfig}}
			plan := plain()
			plan.Key, plan.Name, plan.ServiceAccount, plan.Overlay = world.Key{Cluster: "east", Namespace: "ns", Name: "g"}, "g", "g", tc.overlay
			if _, err := r.provision(t.Context(), g, plan, false); err != nil {
				t.Fatal(err)
			}
			if got == nil || *got != tc.want {
				t.Errorf("it has %v pods, want %d", got, tc.want)
			}
		})
	}
}
