// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/consts"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// TestJudgeVersions has CRDs of several versions, and of others, beside each other.
func TestJudgeVersions(t *testing.T) {
	of := func(name, version string) *metav1.PartialObjectMetadata {
		o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if version != "" {
			o.Annotations = map[string]string{consts.BundleVersionAnnotation: version}
		}
		return o
	}
	gateways, routes := "gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io"
	for _, tc := range []struct {
		name    string
		crds    []*metav1.PartialObjectMetadata
		want    metav1.ConditionStatus
		message string
	}{
		{"the one that we know", []*metav1.PartialObjectMetadata{of(gateways, "v1.7.0"), of(routes, "v1.7.0")}, "True", "the cluster has v1.7.0 of the Gateway API, and v1.7 is supported"},
		{"another patch", []*metav1.PartialObjectMetadata{of(gateways, "v1.7.0"), of(routes, "v1.7.3")}, "True", "the cluster has v1.7.0, v1.7.3 of the Gateway API, and v1.7 is supported"},
		{"an older one", []*metav1.PartialObjectMetadata{of(routes, "v1.6.1"), of(gateways, "v1.7.0")}, "False",
			"v1.7 is supported of the Gateway API, and the cluster has " + routes + " (v1.6.1) beside v1.7.0: what is known of these is served"},
		{"a newer one", []*metav1.PartialObjectMetadata{of(gateways, "v1.8.0")}, "False",
			"v1.7 is supported of the Gateway API, and the cluster has " + gateways + " (v1.8.0) beside no other CRD of it: what is known of these is served"},
		{"none", []*metav1.PartialObjectMetadata{of(gateways, "v1.7.0"), of(routes, "")}, "False",
			"v1.7 is supported of the Gateway API, and the cluster has " + routes + " (no version) beside v1.7.0: what is known of these is served"},
		{"what is no version", []*metav1.PartialObjectMetadata{of(gateways, "v1.7.0 and a very long text that is no version")}, "False",
			"v1.7 is supported of the Gateway API, and the cluster has " + gateways + " (v1.7.0 and a very long text that…) beside no other CRD of it: what is known of these is served"},
		{"no CRD", nil, "False", "v1.7 is supported of the Gateway API, and the cluster has no CRD of it"},
	} {
		got := judgeVersions(tc.crds)
		if got.Status != tc.want || got.Message != tc.message {
			t.Errorf("%s: %s: %s\nwant %s: %s", tc.name, got.Status, got.Message, tc.want, tc.message)
		}
	}
}

var _ = Describe("GatewayClasses", func() {
	It("say whether the Gateway API that is installed is the one that is supported", func(ctx SpecContext) {
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "judged"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: translate.ControllerName}}
		east.with(class)
		says := func(kind string) func() string {
			return func() string {
				if err := east.Get(context.Background(), client.ObjectKeyFromObject(class), class); err != nil {
					return err.Error()
				}
				return verdict(class.Status.Conditions, class.Generation, kind)
			}
		}
		Eventually(says("SupportedVersion")).Should(Equal("True/SupportedVersion"))
		Expect(says("Accepted")()).To(Equal("True/Accepted"), "in the same write")

		By("changing the version of one CRD")
		crd := definition("udproutes")
		annotate := func(ctx context.Context, value string) {
			GinkgoHelper()
			Expect(east.Patch(ctx, crd, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"`+consts.BundleVersionAnnotation+`":`+value+`}}}`)))).To(Succeed())
		}
		DeferCleanup(func(ctx SpecContext) { annotate(ctx, `"`+consts.BundleVersion+`"`) })
		annotate(ctx, `"v1.8.0"`)
		Eventually(says("SupportedVersion")).Should(Equal("False/UnsupportedVersion"))
		Expect(message(class.Status.Conditions, "SupportedVersion")).To(ContainSubstring("udproutes.gateway.networking.k8s.io (v1.8.0)"))
		Expect(says("Accepted")()).To(Equal("True/Accepted"), "what is known is served")
		annotate(ctx, `"`+consts.BundleVersion+`"`)
		Eventually(says("SupportedVersion")).Should(Equal("True/SupportedVersion"))
		annotate(ctx, "null")
		Eventually(says("SupportedVersion")).Should(Equal("False/UnsupportedVersion"))
	})

	It("are judged by every CRD of the Gateway API", func(ctx SpecContext) {
		var all metav1.PartialObjectMetadataList
		all.SetGroupVersionKind(definitionKind.GroupVersion().WithKind(definitionKind.Kind + "List"))
		Expect(east.List(ctx, &all)).To(Succeed())
		var installed []string
		for _, d := range all.Items {
			if name, is := strings.CutSuffix(d.Name, "."+gatewayv1.GroupName); is {
				installed = append(installed, name)
			}
		}
		Expect(definitions).To(ConsistOf(installed))
	})

	It("are accepted, and the control plane stays, where the ClusterRole is older and lets nobody read CRDs", func(ctx SpecContext) {
		c := startCluster()
		DeferCleanup(func() { Expect(c.Stop()).To(Succeed()) })
		c.prepare("older")
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "isthmus-controller"}}
		edit(c, role, func(r *rbacv1.ClusterRole) {
			r.Rules = slices.DeleteFunc(r.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.APIGroups, definitionKind.Group) })
		})
		running := startControlPlane(c, "older")
		DeferCleanup(running.end)
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: translate.ClassEastWest}}
		says := func(kind string) func() string {
			return func() string {
				if err := c.Get(context.Background(), client.ObjectKeyFromObject(class), class); err != nil {
					return err.Error()
				}
				return verdict(class.Status.Conditions, class.Generation, kind)
			}
		}
		Eventually(says("Accepted")).WithTimeout(2 * soon).Should(Equal("True/Accepted"))
		Expect(says("SupportedVersion")()).To(Equal("Unknown/NotReadable"))
		Expect(message(class.Status.Conditions, "SupportedVersion")).To(ContainSubstring("(Forbidden)"))

		By("applying the role of this version")
		for _, o := range documents("config", "rbac", "controller.yaml") {
			if o.GetKind() == "ClusterRole" && o.GetName() == role.Name {
				o.SetResourceVersion("")
				Expect(c.Patch(ctx, o, client.Merge)).To(Succeed())
			}
		}
		Eventually(says("SupportedVersion")).Should(Equal("True/SupportedVersion"), "without a restart")
		Expect(running.done).NotTo(BeClosed())
	})
})

var _ = Describe("listeners whose TLS overlaps", func() {
	It("say so while it is so, of a Gateway and of its ListenerSets", func(ctx SpecContext) {
		tls := &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "overlapping"}}}
		narrow, wide, other := gatewayv1.Hostname("shop.example.com"), gatewayv1.Hostname("*.example.com"), gatewayv1.Hostname("shop.example.org")
		g := eastwest("default", "overlapping", gatewayv1.Listener{Name: "wide", Port: 9443, Protocol: gatewayv1.HTTPSProtocolType, Hostname: &wide, TLS: tls})
		same := gatewayv1.NamespacesFromSame
		g.Spec.AllowedListeners = &gatewayv1.AllowedListeners{Namespaces: &gatewayv1.ListenerNamespaces{From: &same}}
		set := &gatewayv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "overlapping"}, Spec: gatewayv1.ListenerSetSpec{
			ParentRef: gatewayv1.ParentGatewayReference{Name: "overlapping"},
			Listeners: []gatewayv1.ListenerEntry{{Name: "narrow", Port: 9443, Protocol: gatewayv1.HTTPSProtocolType, Hostname: &narrow, TLS: tls}},
		}}
		east.with(g, set)
		const kind = "OverlappingTLSConfig"
		said := func() []string {
			ctx := context.Background()
			if east.Get(ctx, client.ObjectKeyFromObject(g), g) != nil || east.Get(ctx, client.ObjectKeyFromObject(set), set) != nil || len(g.Status.Listeners)+len(set.Status.Listeners) != 2 {
				return nil
			}
			own, theirs := g.Status.Listeners[0].Conditions, set.Status.Listeners[0].Conditions
			return []string{verdict(own, g.Generation, "Accepted"), verdict(theirs, set.Generation, "Accepted"), verdict(own, g.Generation, kind), verdict(theirs, set.Generation, kind)}
		}
		Eventually(said).Should(Equal([]string{"True/Accepted", "True/Accepted", "True/OverlappingHostnames", "True/OverlappingHostnames"}))
		edit(east, set, func(s *gatewayv1.ListenerSet) { s.Spec.Listeners[0].Hostname = &other })
		Eventually(said).Should(Equal([]string{"True/Accepted", "True/Accepted", "", ""}))
		Expect(g.Status.Listeners[0].Conditions).NotTo(ContainElement(HaveField("Type", kind)), "it is not there rather than false")
		Expect(set.Status.Listeners[0].Conditions).NotTo(ContainElement(HaveField("Type", kind)))
	})
})
