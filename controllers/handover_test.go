// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
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

// TestOrphansAreToldToEnd has ReplicaSets of a Gateway that has a Service of its own, whose Deployment is gone: those that are nobody's go when a Deployment would have, and the old Service waits.
func TestOrphansAreToldToEnd(t *testing.T) {
	const grace = int64(gatewayEnding/time.Second) + 60
	set := func(name string, owner *metav1.OwnerReference, labels map[string]string) *appsv1.ReplicaSet {
		s := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: labels}}
		if s.Spec.Template.Spec.TerminationGracePeriodSeconds = new(grace); owner != nil {
			s.OwnerReferences = []metav1.OwnerReference{*owner}
		}
		return s
	}
	ours := func() map[string]string {
		return map[string]string{gatewayNameLabel: "old", translate.LabelManagedBy: translate.ManagedBy}
	}
	theirs := &metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "theirs", UID: "d", Controller: new(true)}
	for name, tc := range map[string]struct {
		set  *appsv1.ReplicaSet
		ends bool
	}{
		"nobody's":                     {set("old-h1", nil, ours()), true},
		"another Deployment's by now":  {set("old-h1", theirs, ours()), false},
		"of another Gateway":           {set("new-h1", nil, map[string]string{gatewayNameLabel: "new", translate.LabelManagedBy: translate.ManagedBy}), false},
		"of pods that somebody runs":   {set("old-h1", nil, map[string]string{gatewayNameLabel: "old"}), false},
		"of which others own a part":   {set("old-h1", &metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "c", UID: "c"}, ours()), true},
		"nobody's, and we may not ask": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := eastwest("ns", "old")
				g.UID = "u"
				owned := []metav1.OwnerReference{{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: g.Name, UID: g.UID, Controller: new(true)}}
				service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "old", OwnerReferences: owned}}
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
					Namespace: "ns", Name: "old-h1-0", Labels: ours(),
					OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "old-h1", UID: "old-h1", Controller: new(true)}},
				}}
				pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = "h1"
				objects := []client.Object{g, service, pod}
				if tc.set != nil {
					objects = append(objects, tc.set)
				}
				c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
					List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
						if _, is := list.(*appsv1.ReplicaSetList); is && tc.set == nil {
							return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "replicasets"}, "", nil)
						}
						return c.List(ctx, list, opts...)
					},
				}).Build()
				known := make(chan struct{})
				close(known)
				r := &GatewayReconciler{
					client: c, reader: c, obstacles: &obstacles{}, known: known, changed: func(types.NamespacedName) {},
					plan: func(string, string) *translate.GatewayPlan {
						return &translate.GatewayPlan{UID: "u", Name: "old", ServiceAccount: "old", Unmanaged: true}
					},
				}
				began := time.Now()
				for time.Since(began) < 2*time.Minute {
					again, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)})
					if err != nil || again.RequeueAfter <= 0 || again.RequeueAfter > handoverLook {
						t.Fatalf("it is looked again after %v, with error %v", again.RequeueAfter, err)
					}
					if err := c.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil {
						t.Fatalf("the old Service: %v", err)
					}
					if tc.set != nil {
						is := c.Get(t.Context(), client.ObjectKeyFromObject(tc.set), &appsv1.ReplicaSet{}) == nil
						if due := tc.ends && time.Since(began) >= time.Minute; is == due {
							t.Fatalf("after %v the ReplicaSet is there: %v", time.Since(began), is)
						}
					}
					time.Sleep(again.RequeueAfter)
				}
			})
		})
	}
}
