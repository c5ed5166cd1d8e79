// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
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
