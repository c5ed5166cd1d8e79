// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

var _ = Describe("GRPCRoutes", func() {
	It("attach to listeners for HTTP, and leave a hostname to an older HTTPRoute", func() {
		g := eastwest("default", "rpc", gatewayv1.Listener{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType})
		east.with(g)
		r := &gatewayv1.GRPCRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "rpc"},
			Spec: gatewayv1.GRPCRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "rpc"}}},
				Hostnames:       []gatewayv1.Hostname{"a.example.com"},
				Rules:           []gatewayv1.GRPCRouteRule{{Matches: []gatewayv1.GRPCRouteMatch{{Method: &gatewayv1.GRPCMethodMatch{Service: new("shop.Cart")}}}}},
			},
		}
		older := &gatewayv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a-older"}, // or first by name, if it is of the same second
			Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "rpc"}}},
				Hostnames:       []gatewayv1.Hostname{"*.example.com"},
			},
		}
		east.with(older)
		Eventually(east.routeVerdict(older, "Accepted")).Should(Equal("True/Accepted"))
		east.with(r)
		says := func() string {
			if err := east.Get(context.Background(), client.ObjectKeyFromObject(r), r); err != nil {
				return err.Error()
			}
			for _, p := range r.Status.Parents {
				if p.ControllerName == translate.ControllerName {
					return verdict(p.Conditions, r.Generation, "Accepted")
				}
			}
			return ""
		}
		Eventually(says).Should(Equal("False/Conflicted"))
		edit(east, r, func(r *gatewayv1.GRPCRoute) { r.Spec.Hostnames[0] = "a.example.org" })
		Eventually(says).Should(Equal("True/Accepted"))
		Eventually(east.listenerStatus(g, "http", "Accepted")).Should(Equal("True/Accepted 2 HTTPRoute GRPCRoute"))
	})
})
