// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// object reads YAML of one of our kinds, so that also what the Go types cannot hold reaches the API server.
func object(kind, name, spec string) *unstructured.Unstructured {
	GinkgoHelper()
	o := &unstructured.Unstructured{}
	Expect(yaml.Unmarshal(fmt.Appendf(nil, "apiVersion: isthmus.dev/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec), &o.Object)).To(Succeed())
	return o
}

func scopeSpec(entry string) string { return "{serviceScopeConfigs: [" + entry + "]}" }

var _ = DescribeTable("The API server refuses",
	func(ctx SpecContext, kind, spec, says string) {
		err := east.Create(ctx, object(kind, "bad", spec), client.DryRunAll)
		Expect(err).To(MatchError(ContainSubstring(says)))
	},
	Entry("an unknown scope", "ServiceScope", scopeSpec(`{scope: WORLD}`), `"GLOBAL", "LOCAL"`),
	Entry("an entry without scope", "ServiceScope", scopeSpec(`{servicesSelector: {}}`), "scope: Required value"),
	Entry("no list of entries", "ServiceScope", `{priority: 1}`, "serviceScopeConfigs: Required value"),
	Entry("an unknown operator", "ServiceScope", scopeSpec(`{scope: GLOBAL, servicesSelector: {matchExpressions: [{key: a, operator: Like}]}}`), `"In", "NotIn", "Exists", "DoesNotExist"`),
	Entry("In without values", "ServiceScope", scopeSpec(`{scope: GLOBAL, servicesSelector: {matchExpressions: [{key: a, operator: In}]}}`), "operators In and NotIn need at least one value"),
	Entry("Exists with values", "ServiceScope", scopeSpec(`{scope: GLOBAL, namespaceSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}`), "operators Exists and DoesNotExist take no values"),
	Entry("a key that is no label", "ServiceScope", scopeSpec(`{scope: GLOBAL, servicesSelector: {matchExpressions: [{key: "a b", operator: Exists}]}}`), "key must be a qualified name"),
	Entry("a key of labels that is none", "ServiceScope", scopeSpec(`{scope: LOCAL, servicesSelector: {matchLabels: {"team/a/b": "c"}}}`), "keys must be qualified names"),
	Entry("a key of namespaces' labels that is none", "ServiceScope", scopeSpec(`{scope: LOCAL, namespaceSelector: {matchLabels: {"not a key": "c"}}}`), "keys must be qualified names"),
	Entry("a value that is no label's", "ServiceScope", scopeSpec(`{scope: GLOBAL, servicesSelector: {matchLabels: {a: "b c"}}}`), "should match"),
	Entry("a priority out of range", "ServiceScope", `{priority: 5000, serviceScopeConfigs: []}`, "less than or equal to 1000"),
	Entry("a remote cluster without Secret", "RemoteCluster", `{network: west}`, "secretRef: Required value"),
	Entry("a Secret without name", "RemoteCluster", `{secretRef: {key: west}}`, "secretRef.name: Required value"),
	Entry("a key that no Secret has", "RemoteCluster", `{secretRef: {name: s, key: "a/b"}}`, "should match"),
	Entry("a network that is no label's value", "RemoteCluster", `{secretRef: {name: s}, network: "a b"}`, "should match"),
	Entry("a trust domain that is none", "RemoteCluster", `{secretRef: {name: s}, trustDomain: "far.example/ns/x"}`, "should match"),
	Entry("a trust domain in upper case", "RemoteCluster", `{secretRef: {name: s}, trustDomain: Far.example}`, "should match"),
	Entry("a relative trust domain", "RemoteCluster", `{secretRef: {name: s}, trustDomain: ".."}`, "should match"),
	Entry("a namespace that is none", "RemoteCluster", `{secretRef: {name: s}, import: {namespaces: [Shop]}}`, "should match"),
	Entry("a network to be on that is no label's value", "RemoteCluster", `{secretRef: {name: s}, import: {networks: ["a b"]}}`, "should match"),
	Entry("an empty network to be on", "RemoteCluster", `{secretRef: {name: s}, import: {networks: [""]}}`, "should match"),
	Entry("an address in place of a range", "RemoteCluster", `{secretRef: {name: s}, import: {podCIDRs: [10.4.0.1]}}`, "podCIDRs must be CIDRs"),
	Entry("a range of addresses that is none", "RemoteCluster", `{secretRef: {name: s}, import: {podCIDRs: [10.4.0.0/14, "fd00::/129"]}}`, "podCIDRs must be CIDRs"),
	Entry("an identity of another form", "RemoteCluster", `{secretRef: {name: s}, import: {identities: ["spiffe://x"]}}`, "should match"),
	Entry("a negative count", "RemoteCluster", `{secretRef: {name: s}, import: {maxServices: -1}}`, "greater than or equal to 0"),
	Entry("a staleness limit that is too short", "RemoteCluster", `{secretRef: {name: s}, stalenessLimit: 1s}`, "stalenessLimit must be at least 10s"),
)

var _ = DescribeTable("The API server takes",
	func(ctx SpecContext, kind, spec string) {
		Expect(east.Create(ctx, object(kind, "good", spec), client.DryRunAll)).To(Succeed())
	},
	Entry("the founding ServiceScope", "ServiceScope", scopeSpec(`{servicesSelector: {matchExpressions: [{key: istio.io/global, operator: In, values: ["true"]}]}, scope: GLOBAL}`)),
	Entry("an entry that matches everything", "ServiceScope", scopeSpec(`{scope: LOCAL}`)),
	Entry("no entries", "ServiceScope", `{serviceScopeConfigs: []}`),
	Entry("a remote cluster with limits", "RemoteCluster", `{secretRef: {name: s, key: west}, network: west, trustDomain: west.example, stalenessLimit: 24h, import: {namespaces: [shop], networks: [west-2, dmz.1], podCIDRs: [10.4.0.0/14, "fd00:4::/48"], identities: ["shop/*", "*/cart"], maxServices: 0}}`),
)

var _ = DescribeTable("The API server takes the sample",
	func(ctx SpecContext, file string) {
		for _, o := range documents("config", "samples", file) {
			if o.GetKind() == "Secret" {
				continue // its credentials are for the reader to fill in
			}
			o.SetName("sample-" + o.GetName())
			Expect(east.Create(ctx, o, client.DryRunAll)).To(Succeed())
		}
	},
	Entry(nil, "gateway.yaml"),
	Entry(nil, "servicescope.yaml"),
	Entry(nil, "remotecluster.yaml"),
)

var _ = Describe("A ServiceScope", func() {
	It("counts what it decides", func(ctx SpecContext) {
		east.runApp("default", "counted", "10.244.1.30", map[string]string{"tier": "counted"})
		s := &v1alpha1.ServiceScope{}
		s.Name = "counting"
		s.Spec = v1alpha1.ServiceScopeSpec{Priority: 5, ServiceScopeConfigs: []v1alpha1.ServiceScopeConfig{{
			ServicesSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "counted"}}, Scope: v1alpha1.ScopeGlobal,
		}}}
		east.with(s)
		Eventually(func() int32 {
			Expect(east.Get(context.Background(), client.ObjectKeyFromObject(s), s)).To(Succeed())
			return s.Status.GlobalServices
		}).Should(BeEquivalentTo(1))
		Expect(verdict(s.Status.Conditions, s.Generation, "Accepted")).To(Equal("True/Accepted"))
	})
})
