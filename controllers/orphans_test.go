// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// TestOrphansAreToldToEnd has a ReplicaSet of a Gateway that has a Service of its own, whose Deployment is gone: one that is nobody's goes when a Deployment would have, and the old Service waits for its pod.
func TestOrphansAreToldToEnd(t *testing.T) {
	const (
		grace = int64(gatewayEnding/time.Second) + 60
		never = time.Hour
	)
	owned := func(by *metav1.OwnerReference) func(*appsv1.ReplicaSet) {
		return func(s *appsv1.ReplicaSet) { s.OwnerReferences = []metav1.OwnerReference{*by} }
	}
	label := func(name, value string) func(*appsv1.ReplicaSet) {
		return func(s *appsv1.ReplicaSet) { s.Labels[name] = value }
	}
	asItIs := func(*appsv1.ReplicaSet) {}
	empty := func(s *appsv1.ReplicaSet) { s.Spec.Replicas = new(int32(0)) }
	for name, tc := range map[string]struct {
		is            func(*appsv1.ReplicaSet)
		list, remove  bool          // whether we may
		leads, runs   bool          // whether there is a Service, and a pod
		goes, useless time.Duration // after how long the ReplicaSet has gone, and the Service
		said          string
	}{
		"nobody's":                             {asItIs, true, true, true, true, time.Minute, never, "WaitsForPods old-h1-0"},
		"another Deployment's by now":          {owned(&metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "theirs", UID: "d", Controller: new(true)}), true, true, true, true, never, never, "WaitsForPods old-h1-0"},
		"of another Gateway":                   {label(gatewayNameLabel, "new"), true, true, true, true, never, never, "WaitsForPods old-h1-0"},
		"of pods that somebody runs":           {label(translate.LabelManagedBy, "me"), true, true, true, true, never, never, "WaitsForPods old-h1-0"},
		"of which others own a part":           {owned(&metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "c", UID: "c"}), true, true, true, true, time.Minute, never, "WaitsForPods old-h1-0"},
		"nobody's, and we may not ask":         {asItIs, false, true, true, true, never, never, "WaitsForPods old-h1-0"},
		"nobody's, and we may not delete":      {asItIs, true, false, true, true, never, never, "WaitsForPods old-h1-0 may not delete ReplicaSet old-h1,"},
		"nobody's, its Service is gone":        {asItIs, true, true, false, true, time.Minute, 0, ""},
		"and we may not delete":                {asItIs, true, false, false, true, never, 0, "PodsDoNotEnd may not delete ReplicaSet old-h1,"},
		"without a pod":                        {empty, true, true, true, false, 0, 0, ""},
		"without a pod, beside one of others":  {empty, true, true, true, true, 0, never, "WaitsForPods old-h1-0"},
		"without a pod, and we may not delete": {empty, true, false, true, false, never, 0, ""},
		"whose pods are told to end": {func(s *appsv1.ReplicaSet) {
			empty(s)
			s.Status.Replicas = 1
		}, true, true, true, true, time.Minute, never, "WaitsForPods old-h1-0"},
		"being deleted, which somebody keeps": {func(s *appsv1.ReplicaSet) {
			s.DeletionTimestamp, s.Finalizers = &metav1.Time{Time: time.Now()}, []string{"example.com/f"}
		}, true, true, true, false, never, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours := func() map[string]string {
					return map[string]string{gatewayNameLabel: "old", translate.LabelManagedBy: translate.ManagedBy}
				}
				g := eastwest("ns", "old")
				g.UID = "u"
				objects := []client.Object{g}
				service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "old", OwnerReferences: []metav1.OwnerReference{
					{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: g.Name, UID: g.UID, Controller: new(true)},
				}}}
				if tc.leads {
					objects = append(objects, service)
				}
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
					Namespace: "ns", Name: "old-h1-0", Labels: ours(),
					OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "old-h1", UID: "old-h1", Controller: new(true)}},
				}}
				pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = "h1"
				if tc.runs {
					objects = append(objects, pod)
				}
				set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "old-h1", UID: "old-h1", Labels: ours()}}
				set.Spec.Template.Spec.TerminationGracePeriodSeconds = new(grace)
				tc.is(set)
				forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "replicasets"}, "", nil)
				barred := forbidden
				if !tc.leads { // by an admission policy, which says it in another way
					barred = apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "ReplicaSet"}, "old-h1", nil)
				}
				c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(objects, set)...).WithInterceptorFuncs(interceptor.Funcs{
					List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
						if _, is := list.(*appsv1.ReplicaSetList); is && !tc.list {
							return forbidden
						}
						return c.List(ctx, list, opts...)
					},
					Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
						if _, is := o.(*appsv1.ReplicaSet); is && !tc.remove {
							return barred
						}
						return c.Delete(ctx, o, opts...)
					},
				}).Build()
				known, told := make(chan struct{}), events.NewFakeRecorder(10)
				close(known)
				r := &GatewayReconciler{
					client: c, reader: c, obstacles: &obstacles{}, known: known, events: told, changed: func(types.NamespacedName) {},
					plan: func(string, string) *translate.GatewayPlan {
						return &translate.GatewayPlan{UID: "u", Name: "old", ServiceAccount: "old", Unmanaged: true}
					},
				}
				for began := time.Now(); time.Since(began) < 2*time.Minute; {
					again, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)})
					if err != nil {
						t.Fatal(err)
					}
					for _, o := range []struct {
						client.Object
						goes time.Duration
					}{{set, tc.goes}, {service, tc.useless}} {
						is := c.Get(t.Context(), client.ObjectKeyFromObject(o), o.Object) == nil
						if gone := time.Since(began) >= o.goes; is == gone {
							t.Fatalf("after %v there is %T: %v", time.Since(began), o.Object, is)
						}
					}
					if again.RequeueAfter == 0 {
						break
					}
					time.Sleep(again.RequeueAfter)
				}
				if is := c.Get(t.Context(), client.ObjectKeyFromObject(set), set) == nil; is != (tc.goes == never) {
					t.Errorf("when nobody looks any more, the ReplicaSet is there: %v", is)
				}
				if want := min(len(tc.said), 1); len(told.Events) != want {
					t.Fatalf("%d events, want %d", len(told.Events), want)
				} else if want == 0 {
					return
				}
				said := <-told.Events
				for word := range strings.FieldsSeq(tc.said) {
					if !strings.Contains(said, word) {
						t.Errorf("%q does not say %q", said, word)
					}
				}
			})
		})
	}
}
