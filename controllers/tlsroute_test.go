// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

var _ = Describe("TLSRoutes", func() {
	It("attach to listeners that pass TLS on, and say what is missing", func(ctx SpecContext) {
		g := eastwest("default", "past", gatewayv1.Listener{
			Name: "api", Port: 6443, Protocol: gatewayv1.TLSProtocolType, TLS: &gatewayv1.ListenerTLSConfig{Mode: ptr.To(gatewayv1.TLSModePassthrough)},
		})
		east.with(g)
		Eventually(east.listenerStatus(g, "api", "Accepted")).Should(Equal("True/Accepted 0 TLSRoute"))
		service := &corev1.Service{}
		Eventually(func() error { return east.Get(ctx, client.ObjectKeyFromObject(g), service) }).Should(Succeed())
		east.removeLater(service)
		Expect(service.Spec.Ports).To(HaveLen(1))
		Expect(service.Spec.Ports[0].Port).To(BeEquivalentTo(6443))

		r := &gatewayv1.TLSRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "api"},
			Spec: gatewayv1.TLSRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "past"}}},
				Hostnames:       []gatewayv1.Hostname{"api.example.com"},
				Rules: []gatewayv1.TLSRouteRule{{BackendRefs: []gatewayv1.BackendRef{{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: "tls-backend", Port: ptr.To[gatewayv1.PortNumber](443)},
				}}}},
			},
		}
		east.with(r)
		says := func(kind string) func() string {
			return func() string {
				if err := east.Get(context.Background(), client.ObjectKeyFromObject(r), r); err != nil {
					return err.Error()
				}
				for _, p := range r.Status.Parents {
					if p.ControllerName == translate.ControllerName {
						return verdict(p.Conditions, r.Generation, kind)
					}
				}
				return ""
			}
		}
		Eventually(says("Accepted")).Should(Equal("True/Accepted"))
		Eventually(says("ResolvedRefs")).Should(Equal("False/BackendNotFound"))
		Eventually(east.listenerStatus(g, "api", "Accepted")).Should(Equal("True/Accepted 1 TLSRoute"))
		east.with(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tls-backend"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}}})
		Eventually(says("ResolvedRefs")).Should(Equal("True/ResolvedRefs"))
		edit(east, g, func(g *gatewayv1.Gateway) {
			g.Spec.Listeners[0].Hostname = ptr.To[gatewayv1.Hostname]("other.example.com")
		})
		Eventually(says("Accepted")).Should(Equal("False/NoMatchingListenerHostname"))
		Eventually(east.listenerStatus(g, "api", "Accepted")).Should(Equal("True/Accepted 0 TLSRoute"))
	})
})
