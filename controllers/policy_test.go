// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

var _ = Describe("AuthorizationPolicies", func() {
	It("are read once their CRD is there, and say what of them cannot be kept", func(ctx SpecContext) {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
		Expect(err).NotTo(HaveOccurred())
		_, err = envtest.InstallCRDs(east.Config, envtest.CRDInstallOptions{
			Paths: []string{filepath.Join(strings.TrimSpace(string(dir)), "kubernetes", "customresourcedefinitions.gen.yaml")}, ErrorIfPathMissing: true,
			MaxTime: soon, PollInterval: tick,
		})
		Expect(err).NotTo(HaveOccurred())
		accepted := func(text string) func() string {
			policy := &unstructured.Unstructured{}
			Expect(yaml.Unmarshal([]byte(text), &policy.Object)).To(Succeed())
			east.with(policy)
			return func() string {
				Expect(east.Get(ctx, client.ObjectKeyFromObject(policy), policy)).To(Succeed())
				conditions, _, _ := unstructured.NestedSlice(policy.Object, "status", "conditions")
				for _, c := range conditions {
					if m := c.(map[string]any); m["type"] == translate.ConditionAccepted {
						return fmt.Sprint(m["status"], "/", m["reason"])
					}
				}
				return ""
			}
		}
		Eventually(accepted(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: custom, namespace: default}
spec: {action: CUSTOM, provider: {name: x}, rules: [{}]}
`)).Should(Equal("False/UnsupportedAction"))
		Eventually(accepted(`
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: lax, namespace: default}
spec: {selector: {matchLabels: {app: x}}, mtls: {mode: DISABLE}}
`)).Should(Equal("False/PartlyInForce"))

		// A policy for a Gateway is in force while the Gateway is served.
		guarded := accepted(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guard, namespace: default}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: guarded}], rules: [{from: [{source: {namespaces: [shop]}}]}]}
`)
		Eventually(guarded).Should(Equal("False/TargetNotFound"))
		gateway := eastwest("default", "guarded")
		east.with(gateway)
		Eventually(guarded).Should(Equal("True/Enforced"))
		Expect(east.Delete(ctx, gateway)).To(Succeed())
		Eventually(guarded).Should(Equal("False/TargetNotFound"))
	})
})

func TestPolicyConditions(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	theirs := map[string]any{"type": "Reconciled", "status": "True"}
	found := []translate.Finding{{Type: translate.ConditionAccepted, Status: "False", Reason: "R", Message: "m", Generation: 2}}
	first, changed := policyConditions([]any{theirs}, found, 2, now)
	if !changed || len(first) != 2 {
		t.Fatalf("got %v, %v", first, changed)
	}
	if _, changed := policyConditions(first, found, 2, now.Add(time.Hour)); changed {
		t.Error("the same finding is news")
	}
	found[0].Message = "other"
	second, changed := policyConditions(first, found, 2, now.Add(time.Hour))
	if !changed || second[1].(map[string]any)["lastTransitionTime"] != "2026-11-22T12:00:00Z" {
		t.Errorf("got %v, %v", second, changed)
	}
	if third, changed := policyConditions(second, nil, 2, now); !changed || len(third) != 1 || len(second) != 2 {
		t.Errorf("got %v, %v", third, changed)
	}
}
