// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

var _ = Describe("a GatewayClass of ours", func() {
	It("stays while Gateways name it", func(ctx SpecContext) {
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: translate.ControllerName}}
		foreign := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "example.com/else"}}
		east.with(class, foreign)
		of := func(name string, class *gatewayv1.GatewayClass) *gatewayv1.Gateway {
			g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: gatewayv1.GatewaySpec{
				GatewayClassName: gatewayv1.ObjectName(class.Name), Listeners: []gatewayv1.Listener{{Name: "web", Port: 80, Protocol: gatewayv1.HTTPProtocolType}},
			}}
			east.with(g)
			return g
		}
		finalizers := func(class *gatewayv1.GatewayClass) func() []string {
			return func() []string {
				if east.Get(context.Background(), client.ObjectKeyFromObject(class), class) != nil {
					return []string{"gone"}
				}
				return class.Finalizers
			}
		}
		of("foreign", foreign)
		first := of("kept-1", class)
		Eventually(finalizers(class)).Should(ConsistOf(gatewayv1.GatewayClassFinalizerGatewaysExist))
		second := of("kept-2", class)

		By("deleting it")
		Expect(east.Delete(ctx, class)).To(Succeed())
		Expect(east.Delete(ctx, first)).To(Succeed())
		Eventually(east.gatewayVerdict(second, "Accepted")).Should(Equal("True/Accepted"), "its Gateways are served on")
		Expect(finalizers(class)()).To(ConsistOf(gatewayv1.GatewayClassFinalizerGatewaysExist))
		Expect(east.Delete(ctx, second)).To(Succeed())
		Eventually(finalizers(class)).Should(ConsistOf("gone"))
		Expect(finalizers(foreign)()).To(BeEmpty())
	})
})

var _ = Describe("the controller's rights", func() {
	It("end before Gateways that it did not make", func(ctx SpecContext) {
		config := rest.CopyConfig(east.Config)
		config.Impersonate = rest.ImpersonationConfig{UserName: accountPrefix + system + ":isthmus-controller"}
		own, err := client.New(config, client.Options{Scheme: scheme})
		Expect(err).NotTo(HaveOccurred())
		for name, allowed := range map[string]bool{"theirs": false, translate.AutomaticWaypoint: true} {
			g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
			Expect(apierrors.IsForbidden(own.Delete(ctx, g))).To(Equal(!allowed), name)
			Expect(apierrors.IsForbidden(own.Patch(ctx, g, client.RawPatch("application/merge-patch+json", []byte(`{}`))))).To(Equal(!allowed), name)
		}
	})
})
