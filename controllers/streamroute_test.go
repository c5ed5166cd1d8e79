// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// saysAt gives a condition of a route's first parent, as "status/reason".
func saysAt(route client.Object, kind string) func() string {
	return func() string {
		if err := east.Get(context.Background(), client.ObjectKeyFromObject(route), route); err != nil {
			return err.Error()
		}
		var parents []gatewayv1.RouteParentStatus
		switch r := route.(type) {
		case *gatewayv1.TCPRoute:
			parents = r.Status.Parents
		case *gatewayv1.UDPRoute:
			parents = r.Status.Parents
		}
		if len(parents) == 0 {
			return ""
		}
		return verdict(parents[0].Conditions, route.GetGeneration(), kind)
	}
}

var _ = Describe("TCPRoutes and UDPRoutes", func() {
	It("share a port number, follow it as it changes, and say what is missing", func(ctx SpecContext) {
		g := eastwest("default", "streams",
			gatewayv1.Listener{Name: "dns-tcp", Port: 53, Protocol: gatewayv1.TCPProtocolType},
			gatewayv1.Listener{Name: "dns", Port: 53, Protocol: gatewayv1.UDPProtocolType})
		east.with(g)
		Eventually(east.listenerStatus(g, "dns-tcp", "Accepted")).Should(Equal("True/Accepted 0 TCPRoute"))
		Eventually(east.listenerStatus(g, "dns", "Accepted")).Should(Equal("True/Accepted 0 UDPRoute"))
		service := &corev1.Service{}
		ports := func() string {
			if err := east.Get(ctx, client.ObjectKeyFromObject(g), service); err != nil {
				return err.Error()
			}
			var out []string
			for _, p := range service.Spec.Ports {
				out = append(out, fmt.Sprintf("%s=%d/%s>%s", p.Name, p.Port, p.Protocol, p.TargetPort.String()))
			}
			slices.Sort(out)
			return strings.Join(out, " ")
		}
		Eventually(ports).Should(Equal("dns-tcp=53/TCP>20053 dns=53/UDP>20053"))
		east.removeLater(service)

		common := gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "streams"}}}
		to := []gatewayv1.BackendRef{{BackendObjectReference: gatewayv1.BackendObjectReference{Name: "resolver", Port: ptr.To[gatewayv1.PortNumber](53)}}}
		tcp := &gatewayv1.TCPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "dns"},
			Spec:       gatewayv1.TCPRouteSpec{CommonRouteSpec: common, Rules: []gatewayv1.TCPRouteRule{{BackendRefs: to}}},
		}
		udp := &gatewayv1.UDPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "dns"},
			Spec:       gatewayv1.UDPRouteSpec{CommonRouteSpec: common, Rules: []gatewayv1.UDPRouteRule{{BackendRefs: to}}},
		}
		east.with(tcp)
		east.with(udp)
		for _, route := range []client.Object{tcp, udp} {
			Eventually(saysAt(route, "Accepted")).Should(Equal("True/Accepted"))
			Eventually(saysAt(route, "ResolvedRefs")).Should(Equal("False/BackendNotFound"))
		}
		east.with(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "resolver"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}}}})
		Eventually(saysAt(udp, "ResolvedRefs")).Should(Equal("True/ResolvedRefs"))
		Consistently(saysAt(tcp, "ResolvedRefs"), "300ms").Should(Equal("False/BackendNotFound")) // the port is not for TCP
		Eventually(east.listenerStatus(g, "dns", "Accepted")).Should(Equal("True/Accepted 1 UDPRoute"))

		edit(east, g, func(g *gatewayv1.Gateway) {
			g.Spec.Listeners[1].Protocol = gatewayv1.TCPProtocolType
			g.Spec.Listeners[1].Port = 54
		})
		Eventually(ports).Should(Equal("dns-tcp=53/TCP>20053 dns=54/TCP>20054"))
		Eventually(saysAt(udp, "Accepted")).Should(Equal("False/NotAllowedByListeners"))
		Eventually(east.listenerStatus(g, "dns", "Accepted")).Should(Equal("True/Accepted 1 TCPRoute"))
	})
})
