// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestPodsThatKeepTheOldService has pods of a Gateway whose Deployment is gone, as it has a Service of its own: what leads to them is there until they end, and not for ever.
func TestPodsThatKeepTheOldService(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		ends  []time.Duration // of each pod, from now on; 0: nobody has told it to end
		stays bool
		said  string
	}{
		"none is left":            {nil, false, ""},
		"one ends":                {[]time.Duration{9 * time.Minute}, true, "Normal WaitsForPods until " + now.Add(10*time.Minute).UTC().Format(time.RFC3339)},
		"one had to end just now": {[]time.Duration{-30 * time.Second}, true, "Normal WaitsForPods until"},
		"one had to end long ago": {[]time.Duration{-2 * time.Minute}, false, "Warning PodsDoNotEnd old-h1-0"},
		"one had to end long ago, and another one still ends": {[]time.Duration{-2 * time.Minute, time.Minute}, true, "Normal WaitsForPods until"},
		"one that nobody told":                                {[]time.Duration{0, -2 * time.Minute}, true, "Normal WaitsForPods nobody old-h1-0"},
	} {
		t.Run(name, func(t *testing.T) {
			g := eastwest("ns", "old")
			g.UID = "u"
			owned := []metav1.OwnerReference{{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: g.Name, UID: g.UID, Controller: new(true)}}
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "old", OwnerReferences: owned}}
			objects := []client.Object{g, service}
			for i, end := range tc.ends {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
					Namespace: "ns", Name: fmt.Sprint("old-h1-", i), Finalizers: []string{"example.com/f"},
					Labels:          map[string]string{gatewayNameLabel: "old", translate.LabelManagedBy: translate.ManagedBy, appsv1.DefaultDeploymentUniqueLabelKey: "h1"},
					OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "old-h1", UID: "r", Controller: new(true)}},
				}}
				if end != 0 {
					p.DeletionTimestamp = &metav1.Time{Time: now.Add(end)}
				}
				objects = append(objects, p)
			}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
			known, told := make(chan struct{}), events.NewFakeRecorder(10)
			close(known)
			r := &GatewayReconciler{
				client: c, reader: c, obstacles: &obstacles{}, known: known, events: told, changed: func(types.NamespacedName) {},
				plan: func(string, string) *translate.GatewayPlan {
					return &translate.GatewayPlan{UID: "u", Name: "old", ServiceAccount: "old", Unmanaged: true}
				},
			}
			for range 2 {
				again, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)})
				if err != nil || tc.stays != (again.RequeueAfter == handoverLook) {
					t.Errorf("it is looked again after %v, with error %v", again.RequeueAfter, err)
				}
			}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(service), service); tc.stays != (err == nil) {
				t.Errorf("the old Service: %v", err)
			}
			if want := min(len(tc.said), 1); len(told.Events) != want {
				t.Fatalf("%d events, want %d", len(told.Events), want)
			}
			if tc.said == "" {
				return
			}
			said := <-told.Events
			for word := range strings.FieldsSeq(tc.said) {
				if !strings.Contains(said, word) {
					t.Errorf("%q does not say %q", said, word)
				}
			}
		})
	}
}

// TestWhatIsKeptHasPods has the Deployment of a Gateway deleted whose own Service cannot take the place of what was made yet: it is made again, and what leads to it stays as it is.
func TestWhatIsKeptHasPods(t *testing.T) {
	owned := []metav1.OwnerReference{{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: "g", UID: "now", Controller: new(true)}}
	all := []string{"ServiceAccount", "Deployment replicas=7", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
	for name, tc := range map[string]struct {
		deployment *appsv1.Deployment
		unseen     bool // at first
		refuses    error
		want       []string // what is applied
		says       string   // beside what was found
		again      time.Duration
	}{
		"it is there":           {&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{OwnerReferences: owned}}, false, nil, nil, "", 0},
		"it is seen next time":  {&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{OwnerReferences: owned}}, true, nil, nil, "", 0},
		"it is gone":            {nil, false, nil, all, "", 0},
		"it is somebody else's": {&appsv1.Deployment{}, false, nil, nil, "is not made again: metadata.name: Deployment ns/g exists", obstacleWait},
		"it is not let in":      {nil, false, apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "g", errors.New("quota")), all[:2], "the API server refuses the Deployment", refusedWait},
	} {
		t.Run(name, func(t *testing.T) {
			g := eastwest("ns", "g")
			g.UID, g.Generation = "now", 1
			meta := metav1.ObjectMeta{Namespace: "ns", Name: "g", OwnerReferences: owned}
			scaler := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta, Status: autoscalingv2.HorizontalPodAutoscalerStatus{DesiredReplicas: 7}}
			service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "gone", Port: 1}}}}
			objects := []client.Object{g, service, scaler}
			if tc.deployment != nil {
				tc.deployment.Namespace, tc.deployment.Name = "ns", "g"
				objects = append(objects, tc.deployment)
			}
			var applied []string
			unseen := tc.unseen
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if _, is := o.(*appsv1.Deployment); is && unseen {
						unseen = false
						return apierrors.NewInternalError(errors.New("no leader"))
					}
					return c.Get(ctx, key, o, opts...)
				},
				Apply: func(_ context.Context, _ client.WithWatch, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
					kind := strings.TrimSuffix(reflect.TypeOf(o).Elem().Name(), "ApplyConfiguration")
					d, is := o.(*appsv1ac.DeploymentApplyConfiguration)
					if !is {
						applied = append(applied, kind)
						return nil
					}
					applied = append(applied, fmt.Sprint(kind, " replicas=", *d.Spec.Replicas))
					return tc.refuses
				},
			}).Build()
			known := make(chan struct{})
			close(known)
			plan := plain()
			plan.Key, plan.UID, plan.Name, plan.ServiceAccount = world.Key{Cluster: "east", Namespace: "ns", Name: "g"}, "now", "g", "g"
			plan.Unmanaged, plan.Kept = true, true
			p := lookedAt{plan: plan}
			r := &GatewayReconciler{client: c, reader: c, obstacles: &obstacles{}, known: known, plan: p.Plan, changed: func(types.NamespacedName) {}, settings: ProvisionSettings{Config: hostileConfig}}
			request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)}
			if tc.unseen {
				if _, err := r.Reconcile(t.Context(), request); err == nil {
					t.Error("nothing says that it was not seen")
				}
			}
			again, err := r.Reconcile(t.Context(), request)
			if err != nil || again.RequeueAfter != tc.again || !slices.Equal(applied, tc.want) {
				t.Errorf("applied are %q, want %q; it is looked again after %v, with error %v", applied, tc.want, again.RequeueAfter, err)
			}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil || service.Spec.Ports[0].Name != "gone" {
				t.Errorf("its Service is %+v, with error %v", service.Spec, err)
			}
			fillGateway(g, p, r.obstacles)
			if got := verdict(g.Status.Conditions, 1, "Accepted"); got != "True/Accepted" {
				t.Errorf("it is said to be %s", got)
			}
			if said := message(g.Status.Conditions, "Programmed"); !strings.Contains(said, tc.says) || (said == "") != (tc.says == "") {
				t.Errorf("%q does not say %q", said, tc.says)
			}
		})
	}
}
