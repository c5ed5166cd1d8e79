// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

var _ = Describe("automatic waypoints", func() {
	It("are made for a route at a Service or a label, and go with them, unless labels say who else enforces it", func(ctx SpecContext) {
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
		edit(east, service, func(s *corev1.Service) {
			s.Labels = map[string]string{"istio.io/use-waypoint": translate.AutomaticWaypoint}
		})
		Eventually(func() error { return east.Get(ctx, key, &g) }).Should(Succeed())

		Expect(g.Annotations).NotTo(BeEmpty())

		By("the end of the route and of the label")
		Expect(east.Delete(ctx, route)).To(Succeed())
		edit(east, service, func(s *corev1.Service) { s.Labels = nil })
		Eventually(gone(&g)).Should(BeTrue())
	})

	// West has no control plane of its own, so that nobody else writes.
	It("stay for a while, and are never taken for what a user made", func(ctx SpecContext) {
		wanted, now := true, time.Unix(1e9, 0)
		complete := make(chan struct{})
		close(complete)
		r := newAutomaticWaypoints(west.Client, func(string) bool { return wanted }, complete)
		r.now = func() time.Time { return now }
		west.with(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "auto"}})
		key := client.ObjectKey{Namespace: "auto", Name: translate.AutomaticWaypoint}
		reconcile := func() time.Duration {
			GinkgoHelper()
			result, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: key})
			Expect(err).NotTo(HaveOccurred())
			return result.RequeueAfter
		}
		there := func() *gatewayv1.Gateway {
			GinkgoHelper()
			var g gatewayv1.Gateway
			if err := west.Get(ctx, key, &g); !apierrors.IsNotFound(err) {
				Expect(err).NotTo(HaveOccurred())
				return &g
			}
			return nil
		}
		reconcile() // makes it
		reconcile() // marks it
		made := there()
		Expect(made.Annotations).To(HaveKeyWithValue(automaticMark, string(made.UID)))

		By("wanting it no more, and again within its time")
		wanted = false
		Expect(reconcile()).To(Equal(automaticGrace))
		now = now.Add(automaticGrace - time.Millisecond)
		Expect(reconcile()).To(Equal(time.Millisecond))
		wanted = true
		Expect(reconcile()).To(BeZero())
		wanted = false
		Expect(reconcile()).To(Equal(automaticGrace), "its time begins anew")
		labels := made.Labels
		edit(west, made, func(g *gatewayv1.Gateway) { g.Labels = nil })
		Expect(reconcile()).To(BeZero(), "somebody took it over")
		now = now.Add(automaticGrace)
		edit(west, made, func(g *gatewayv1.Gateway) { g.Labels = labels })
		Expect(reconcile()).To(Equal(automaticGrace), "they gave it back, and its time begins anew")
		now = now.Add(automaticGrace)
		Expect(there().UID).To(Equal(made.UID))
		reconcile()
		Expect(there()).To(BeNil())

		By("a user's copy of it")
		theirs := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: made.Labels, Annotations: made.Annotations}, Spec: made.Spec}
		west.create(theirs)
		for range 3 {
			Expect(reconcile()).To(BeZero())
			now = now.Add(automaticGrace)
		}
		wanted = true
		Expect(reconcile()).To(BeZero())
		Expect(there().UID).To(Equal(theirs.UID))
		Expect(there().Annotations).To(Equal(made.Annotations), "it is as they wrote it")

		By("one that a user adopts")
		Expect(west.Delete(ctx, theirs)).To(Succeed())
		reconcile()
		reconcile()
		edit(west, there(), func(g *gatewayv1.Gateway) { g.Labels = nil })
		wanted = false
		for range 3 {
			Expect(reconcile()).To(BeZero())
			now = now.Add(automaticGrace)
		}
		Expect(there()).NotTo(BeNil())
	})
})
