// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// TestWhatCannotBeSeen has one look-up of five fail, in a process that has just begun to lead. What others showed is said all the same; if that is nothing, what was said before stays, unless it
// is that we may not look.
func TestWhatCannotBeSeen(t *testing.T) {
	busy := apierrors.NewTooManyRequests("later", 1)
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "g", nil)
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g"}}
	going := theirs.DeepCopy()
	going.DeletionTimestamp, going.Finalizers = &metav1.Time{Time: metav1.Now().Rfc3339Copy().Time}, []string{"example.com/f"}
	for name, tc := range map[string]struct {
		objects []client.Object
		fails   error
		want    string // what is said of the Gateway then
		retried bool   // with the work queue's patience
	}{
		"something is in the way, and the server is busy":  {[]client.Object{theirs}, busy, "False/Invalid False/Invalid", true},
		"something is in the way, and we may not look":     {[]client.Object{theirs}, forbidden, "False/Invalid False/Invalid", false},
		"something goes, and the server is busy":           {[]client.Object{going}, busy, "before before", true},
		"nothing is known, as the server is busy":          {nil, busy, "before before", true},
		"nothing is known, as we may not look":             {nil, forbidden, "True/Accepted False/NoResources", false},
		"something goes, and we may not look for the rest": {[]client.Object{going}, forbidden, "True/Accepted False/NoResources", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := eastwest("ns", "g")
			g.UID, g.Generation = "now", 1
			failing := interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if _, is := o.(*gatewayv1.Gateway); is || isService(o) {
					return c.Get(ctx, key, o, opts...)
				}
				if !isAccount(o) {
					return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
				}
				return tc.fails
			}}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(tc.objects, g)...).WithInterceptorFuncs(failing).Build()
			known, told := make(chan struct{}), 0
			close(known)
			p := lookedAt{plan: &translate.GatewayPlan{UID: "now", Name: "g", ServiceAccount: "g"}}
			r := &GatewayReconciler{client: c, reader: c, obstacles: &obstacles{}, known: known, plan: p.Plan, changed: func(types.NamespacedName) { told++ }}
			again, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)})
			if retried := err != nil; retried != tc.retried || !retried && again.RequeueAfter != refusedWait {
				t.Errorf("it is looked again after %v, with error %v", again.RequeueAfter, err)
			}
			g.Status.Conditions = []metav1.Condition{{Type: "Accepted", Status: "before"}, {Type: "Programmed", Status: "before"}}
			fillGateway(g, p, r.obstacles)
			said := verdict(g.Status.Conditions, 1, "Accepted") + " " + verdict(g.Status.Conditions, 1, "Programmed")
			if g.Status.Conditions[0].Status == "before" {
				said = "before before"
			}
			if said != tc.want {
				t.Errorf("the Gateway is said to be %s, want %s", said, tc.want)
			}
			if want := tc.want != "before before"; want != (told == 1) {
				t.Errorf("who writes the status is told %d times", told)
			}
		})
	}
}

func isService(o client.Object) bool {
	_, is := o.(*corev1.Service)
	return is
}
