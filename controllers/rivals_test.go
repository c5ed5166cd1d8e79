// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestRivalsAreFoundAgain has a process that has just begun to lead look for other autoscalers.
func TestRivalsAreFoundAgain(t *testing.T) {
	scaler := func(name, deployment string) *autoscalingv2.HorizontalPodAutoscaler {
		return &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: deployment}},
		}
	}
	idle := func() *autoscalingv2.HorizontalPodAutoscaler {
		s := scaler("g", "g")
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: "g", UID: "u", Controller: new(true)}}
		s.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse, Reason: "AmbiguousSelector"}}
		return s
	}
	fixed := &world.Overlay{Replicas: 3}
	for name, tc := range map[string]struct {
		said     bool // by the process that led before
		overlay  *world.Overlay
		replicas int32
		there    []client.Object
		want     string // words of what is said; "": nothing is
	}{
		"nobody has changed the number, and nothing was said":      {false, fixed, 3, []client.Object{scaler("theirs", "g")}, ""},
		"nobody has changed the number since it was said":          {true, fixed, 3, []client.Object{scaler("theirs", "g")}, "HorizontalPodAutoscaler theirs of namespace ns"},
		"somebody has changed the number":                          {false, fixed, 5, []client.Object{scaler("theirs", "g")}, "HorizontalPodAutoscaler theirs of namespace ns"},
		"it was said, and is so no more":                           {true, fixed, 3, []client.Object{scaler("theirs", "else")}, ""},
		"ours is idle for one of the same Deployment":              {false, nil, 2, []client.Object{idle(), scaler("theirs", "g")}, "HorizontalPodAutoscaler theirs of namespace ns"},
		"ours is idle for one of another Deployment with its pods": {false, nil, 2, []client.Object{idle(), scaler("theirs", "else")}, "HorizontalPodAutoscaler g of namespace ns ScalingActive selector"},
		"ours is at work, beside one of another Deployment":        {true, nil, 2, []client.Object{scaler("g", "g"), scaler("theirs", "else")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := eastwest("ns", "g")
			g.UID = "u"
			if tc.said {
				g.Status.Conditions = []metav1.Condition{{Type: conditionScaled, Status: metav1.ConditionFalse, Reason: reasonAmbiguous, Message: "HorizontalPodAutoscaler theirs"}}
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(tc.there...).Build()
			r := &GatewayReconciler{client: c, reader: c, obstacles: &obstacles{}}
			got, err := r.rivals(t.Context(), g, &translate.GatewayPlan{Name: "g", Overlay: tc.overlay}, running{replicas: tc.replicas, version: "1"})
			if err != nil || (tc.want == "") != (got == "") {
				t.Fatalf("it says %q, with error %v; want %q", got, err, tc.want)
			}
			for word := range strings.FieldsSeq(tc.want) {
				if !strings.Contains(got, word) {
					t.Errorf("%q does not say %q", got, word)
				}
			}
		})
	}
}

// TestRivalsStayWhenNotLookedFor: what an earlier process said of autoscalers stays while nobody can look for them.
func TestRivalsStayWhenNotLookedFor(t *testing.T) {
	g := eastwest("ns", "g")
	g.UID = "u"
	g.Status.Conditions = []metav1.Condition{{Type: conditionScaled, Status: metav1.ConditionFalse, Reason: reasonAmbiguous, Message: "theirs scales it, too"}}
	var o obstacles
	if !o.tried(g) {
		t.Error("who writes the status is not told")
	}
	if got := o.instead(g, nil); len(got) != 1 || got[0].Type != conditionScaled || got[0].Message != "theirs scales it, too" {
		t.Errorf("it says %v", got)
	}
	o.note(g, namesakes{})
	if got := o.instead(g, nil); len(got) != 0 {
		t.Errorf("they are gone, and it says %v", got)
	}
}
