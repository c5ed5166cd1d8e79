// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

var _ = Describe("Parents of routes", func() {
	It("are gone once the API server says so", func(ctx SpecContext) {
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "parents-of-others"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "example.com/other"}}
		ours, theirs, going := eastwest("default", "parent-ours"), eastwest("default", "parent-theirs"), eastwest("default", "parent-going")
		east.made(ours)
		east.made(going)
		theirs.Spec.GatewayClassName = "parents-of-others"
		going.Finalizers = []string{"example.com/stays"}
		set, orphan := setOf(ours), setOf(theirs)
		orphan.Spec.ParentRef.Name = "parent-missing"
		astray := setOf(ours) // of something that has the Gateway's name
		astray.Name, astray.Spec.ParentRef.Kind = "parent-astray", ptr.To[gatewayv1.Kind]("Service")
		east.with(class, ours, theirs, going, set, orphan, astray)
		Expect(east.Delete(ctx, going)).To(Succeed())
		DeferCleanup(func() { edit(east, going, func(g *gatewayv1.Gateway) { g.Finalizers = nil }) })

		of := func(kind, name string) gatewayv1.ParentReference {
			ref := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(name)}
			if kind != "" {
				ref.Kind = ptr.To(gatewayv1.Kind(kind))
			}
			return ref
		}
		ofService := of("Service", "anything")
		ofService.Group = ptr.To[gatewayv1.Group]("")
		elsewhere := of("", "parent-ours")
		elsewhere.Namespace = ptr.To[gatewayv1.Namespace]("kube-system")
		for _, tc := range []struct {
			ref  gatewayv1.ParentReference
			gone bool
		}{
			{of("", "parent-ours"), false}, {of("", "parent-theirs"), true}, {of("", "parent-going"), true}, {of("", "parent-missing"), true}, {elsewhere, true},
			{of("ListenerSet", "parent-ours"), false}, {of("ListenerSet", "parent-theirs"), true}, {of("ListenerSet", "parent-missing"), true}, {of("ListenerSet", "parent-astray"), true}, {ofService, false},
		} {
			gone, err := parentReader{east}.gone(ctx, "default", tc.ref)
			Expect(err).NotTo(HaveOccurred())
			Expect(gone).To(Equal(tc.gone), "%+v", tc.ref)
		}

		ended, cancel := context.WithCancel(ctx)
		cancel()
		gone, err := parentReader{east}.gone(ended, "default", of("", "parent-missing"))
		Expect(err).To(HaveOccurred())
		Expect(gone).To(BeFalse(), "nobody knows")
	})
})
