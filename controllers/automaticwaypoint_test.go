// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

var _ = Describe("automatic waypoints", func() {
	It("are made for a route at a Service and go with it, unless labels say who enforces it", func(ctx SpecContext) {
		east.with(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "auto"}})
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "auto", Name: "cart"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
		east.with(service)
		group, kind, port := gatewayv1.Group(""), gatewayv1.Kind("Service"), gatewayv1.PortNumber(80)
		route := &gatewayv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "auto", Name: "cart"},
			Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Group: &group, Kind: &kind, Name: "cart"}}},
				Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{
					BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: "cart", Port: &port}}}}}},
			},
		}
		east.with(route)
		key := client.ObjectKey{Namespace: "auto", Name: translate.AutomaticWaypoint}
		gone := func(o client.Object) func() bool {
			return func() bool { return apierrors.IsNotFound(east.Get(context.Background(), key, o)) }
		}
		var g gatewayv1.Gateway
		Eventually(func() error { return east.Get(ctx, key, &g) }).Should(Succeed())
		Expect(string(g.Spec.GatewayClassName)).To(Equal(translate.ClassWaypoint))
		Eventually(func() error { return east.Get(ctx, key, &appsv1.Deployment{}) }).Should(Succeed(), "it is provisioned like any other Gateway")
		var made corev1.Service
		Eventually(func() error { return east.Get(ctx, key, &made) }).Should(Succeed())
		Expect(made.Spec.Type).To(Equal(corev1.ServiceTypeClusterIP))
		Expect(made.Spec.Ports).To(HaveLen(1))
		Expect(made.Spec.Ports[0].Port).To(Equal(int32(15008)))
		Eventually(east.gatewayVerdict(&g, "Programmed")).Should(Equal("False/AddressNotAssigned"), "no pod is ready here")

		By("deleting it: it comes back")
		Expect(east.Delete(ctx, &g)).To(Succeed())
		Eventually(func() bool { return east.Get(ctx, key, &g) == nil && g.DeletionTimestamp.IsZero() }).Should(BeTrue())

		By("a label that wants none")
		edit(east, service, func(s *corev1.Service) { s.Labels = map[string]string{"istio.io/use-waypoint": "none"} })
		Eventually(gone(&g)).Should(BeTrue())
		edit(east, service, func(s *corev1.Service) { s.Labels = nil })
		Eventually(func() error { return east.Get(ctx, key, &g) }).Should(Succeed())

		By("the last route's end")
		Expect(east.Delete(ctx, route)).To(Succeed())
		Eventually(gone(&g)).Should(BeTrue())
	})
})
