// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// TestForeignPortsAreTakenOutOfWhatIsThere has a cache that has not seen yet which port was added last. That one stays, as nodes would serve it elsewhere if it came back; and what is
// foreign goes when the cache has seen all.
func TestForeignPortsAreTakenOutOfWhatIsThere(t *testing.T) {
	plan := plain()
	service := func(ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: plan.Key.Namespace, Name: plan.Name}, Spec: corev1.ServiceSpec{Ports: ports}}
	}
	foreign := corev1.ServicePort{Name: "theirs", Port: 99, Protocol: corev1.ProtocolTCP}
	ours := corev1.ServicePort{Name: "mesh", Port: 15008, Protocol: corev1.ProtocolTCP, NodePort: 30008}
	var stale *corev1.Service
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(service(foreign)).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if s, is := o.(*corev1.Service); is && stale != nil {
				stale.DeepCopyInto(s)
				return nil
			}
			return c.Get(ctx, key, o, opts...)
		},
	}).Build()
	r := &GatewayReconciler{client: c, reader: c, obstacles: &obstacles{}}
	is := service()
	get := func() {
		t.Helper()
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(is), is); err != nil {
			t.Fatal(err)
		}
	}
	get()
	seen := is.DeepCopy()
	is.Spec.Ports = append(is.Spec.Ports, ours)
	if err := c.Update(t.Context(), is); err != nil {
		t.Fatal(err)
	}
	stale = seen
	_, err := r.provision(t.Context(), eastwest(plan.Key.Namespace, plan.Key.Name), plan, false)
	stale = nil
	if get(); !apierrors.IsConflict(err) || len(is.Spec.Ports) != 2 {
		t.Errorf("by an old state: %v, and there are %v", err, is.Spec.Ports)
	}
	if err := r.dropForeignPorts(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if get(); len(is.Spec.Ports) != 1 || is.Spec.Ports[0] != ours {
		t.Errorf("by what is there: %v", is.Spec.Ports)
	}
}
