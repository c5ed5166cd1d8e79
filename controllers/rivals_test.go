// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
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
			if err != nil || (tc.want == "") != (got == unscaled{}) || tc.want != "" && got.reason != reasonAmbiguous {
				t.Fatalf("it says %q, with error %v; want %q", got, err, tc.want)
			}
			for word := range strings.FieldsSeq(tc.want) {
				if !strings.Contains(got.message, word) {
					t.Errorf("%q does not say %q", got, word)
				}
			}
		})
	}
}

// TestAnAutoscalerOfTheNameForSomethingElse is said, as it keeps ours from being made, and does not do its work. One that does is as welcome as one that was asked for.
func TestAnAutoscalerOfTheNameForSomethingElse(t *testing.T) {
	g := eastwest("ns", "g")
	g.UID = "u"
	for name, tc := range map[string]struct {
		kind, deployment string
		overlay          *world.Overlay
		want             string // the reason
	}{
		"for the Gateway's Deployment":                     {"Deployment", "g", nil, ""},
		"for another Deployment":                           {"Deployment", "web", nil, reasonNameTaken},
		"for something else of the Deployment's name":      {"StatefulSet", "g", nil, reasonNameTaken},
		"for another one, where the number is fixed":       {"Deployment", "web", &world.Overlay{Replicas: 2}, ""},
		"for another one, where others decide in any case": {"Deployment", "web", &world.Overlay{ScaledByOthers: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := &autoscalingv2.HorizontalPodAutoscaler{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g"},
				Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: tc.kind, Name: tc.deployment}},
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(theirs).Build()
			r := &GatewayReconciler{client: c, reader: c, obstacles: &obstacles{}}
			got, err := r.rivals(t.Context(), g, &translate.GatewayPlan{Name: "g", Overlay: tc.overlay}, running{replicas: 2, version: "1", scaler: true})
			if err != nil || got.reason != tc.want {
				t.Fatalf("it says %q, with error %v; want %q", got, err, tc.want)
			}
			r.obstacles.note(g, namesakes{scaler: true, rivals: got})
			said := r.obstacles.instead(g, nil)
			if len(said) > 0 != (tc.want != "") || len(said) > 0 && (said[0].Type != conditionScaled || said[0].Reason != tc.want || !strings.Contains(said[0].Message, "HorizontalPodAutoscaler g of namespace ns")) {
				t.Errorf("its conditions say %v", said)
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

// TestRivalsStayWhileTheAPIServerRefuses has other autoscalers found in the look that ends with a refusal, and in one before.
func TestRivalsStayWhileTheAPIServerRefuses(t *testing.T) {
	g := eastwest("ns", "g")
	g.UID, g.Generation = "u", 1
	owned := []metav1.OwnerReference{{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: "g", UID: "u", Controller: new(true)}}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g", UID: "d", OwnerReferences: owned}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(5))}}
	theirs := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "theirs"},
		Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "g"}},
	}
	var listing error
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(g, deployment, theirs).WithInterceptorFuncs(interceptor.Funcs{
		Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "g", nil)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if listing != nil {
				return listing
			}
			return c.List(ctx, list, opts...)
		},
	}).Build()
	known := make(chan struct{})
	close(known)
	r := &GatewayReconciler{
		client: c, reader: c, obstacles: &obstacles{}, known: known, changed: func(types.NamespacedName) {}, settings: ProvisionSettings{Config: hostileConfig},
		plan: func(string, string) *translate.GatewayPlan {
			return &translate.GatewayPlan{Key: world.Key{Cluster: "east", Namespace: "ns", Name: "g"}, UID: "u", Name: "g", ServiceAccount: "g", ServiceType: "ClusterIP", Overlay: &world.Overlay{Replicas: 3},
				Listeners: []mesh.Listener{{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerHBONE}}}
		},
	}
	expect := func(what string, scaled bool) {
		t.Helper()
		if again, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)}); err != nil || again.RequeueAfter != refusedWait {
			t.Fatalf("%s: it is looked again after %v, with error %v", what, again.RequeueAfter, err)
		}
		var conditions []metav1.Condition
		programmed := translate.Finding{Type: "Programmed", Status: "True", Reason: "Programmed"}
		applyFindings(&conditions, r.obstacles.instead(g, []translate.Finding{programmed}), g.Generation, gatewayTypes...)
		if got := verdict(conditions, 1, "Programmed"); got != "False/Invalid" {
			t.Errorf("%s: Programmed is %s", what, got)
		}
		if is := meta.FindStatusCondition(conditions, conditionScaled) != nil; is != scaled {
			t.Errorf("%s: that others scale it is said: %v", what, is)
		}
	}
	expect("found and refused", true)
	listing = apierrors.NewTooManyRequests("later", 1)
	expect("not looked for and refused", true)
	listing = nil
	if err := c.Delete(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	expect("gone and refused", false)
}
