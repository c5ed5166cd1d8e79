// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ServiceScope: ServiceScopes say which services other clusters may use, the one that comes first decides, and what they do is in their statuses.
var ServiceScope = suite.ConformanceTest{
	ShortName:   "IsthmusServiceScope",
	Description: "Services are exported as the first ServiceScope says that matches them, and the statuses count them.",
	Features:    []features.FeatureName{features.SupportGateway, SupportHBONE, SupportServiceScope},
	Manifests:   []string{"service-scope.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		name := types.NamespacedName{Namespace: suite.InfrastructureNamespace, Name: "service-scope"}
		address, err := kubernetes.WaitForGatewayAddress(t, s.Client, s.TimeoutConfig, kubernetes.NewGatewayRef(name, "mesh"))
		if err != nil {
			t.Fatal(err)
		}
		kubernetes.GatewayMustHaveCondition(t, s.Client, s.TimeoutConfig, name, kubernetes.GetGatewayProgrammedCondition())
		p, gateway := newPeer(t, s), gatewayIdentity(t, s, name)
		backend := mesh.Identity{TrustDomain: trustDomain, Namespace: suite.InfrastructureNamespace, ServiceAccount: "default"}
		exported := func(service string, want bool) {
			t.Helper()
			authority := fmt.Sprintf("%s.%s.svc.cluster.local:8080", service, suite.InfrastructureNamespace)
			eventually(t, s.TimeoutConfig.MaxTimeToConsistency, fmt.Sprintf("%s is exported: %v", service, want), func() error {
				status, err := p.get(t.Context(), address, gateway, authority, backend)
				if _, reason := refusal(err); !want && reason == "not_exported" || want && err == nil && status == 200 {
					return nil
				}
				return fmt.Errorf("status %d, %w", status, err)
			})
		}
		counted := func(scope string, global, local int32) {
			t.Helper()
			eventually(t, s.TimeoutConfig.MaxTimeToConsistency, "the status of ServiceScope "+scope+" is right", func() error {
				var o v1alpha1.ServiceScope
				if err := s.Client.Get(t.Context(), client.ObjectKey{Name: scope}, &o); err != nil {
					return err
				}
				if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ServiceScopeAccepted); c == nil || c.Status != "True" || c.Reason != v1alpha1.ReasonAccepted || c.ObservedGeneration != o.Generation {
					return fmt.Errorf("its condition Accepted is %v in generation %d", c, o.Generation)
				}
				if o.Status.GlobalServices != global || o.Status.LocalServices != local || o.Status.ObservedGeneration != o.Generation {
					return fmt.Errorf("it counts %d global and %d local services of generation %d, want %d and %d of %d", o.Status.GlobalServices, o.Status.LocalServices,
						o.Status.ObservedGeneration, global, local, o.Generation)
				}
				return nil
			})
		}

		t.Run("Of equal priority the first name decides, and a higher priority comes before it", func(t *testing.T) {
			counted("conformance-a", 0, 1)
			counted("conformance-b", 1, 0)
			counted("conformance-high", 0, 1)
			exported("scope-global", true)
			exported("scope-both", false)
			exported("scope-carved", false)
		})
		t.Run("Without the one that decided the next one does", func(t *testing.T) {
			if err := s.Client.Delete(t.Context(), &v1alpha1.ServiceScope{ObjectMeta: named("conformance-a")}); err != nil {
				t.Fatal(err)
			}
			counted("conformance-b", 2, 0)
			exported("scope-both", true)
			exported("scope-carved", false)
		})
		t.Run("Without the label a service is kept", func(t *testing.T) {
			service := client.ObjectKey{Namespace: suite.InfrastructureNamespace, Name: "scope-global"}
			relabel(t, s, service, "conformance.isthmus.dev/scope", "none")
			counted("conformance-b", 1, 0)
			exported("scope-global", false)
			relabel(t, s, service, "conformance.isthmus.dev/scope", "global")
			exported("scope-global", true)
		})
		t.Run("Without a carve-out the service follows the others", func(t *testing.T) {
			if err := s.Client.Delete(t.Context(), &v1alpha1.ServiceScope{ObjectMeta: named("conformance-high")}); err != nil {
				t.Fatal(err)
			}
			counted("conformance-b", 3, 0)
			exported("scope-carved", true)
		})
	},
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// relabel gives a Service's label another value.
func relabel(t *testing.T, s *suite.ConformanceTestSuite, key client.ObjectKey, label, value string) {
	t.Helper()
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	if err := s.Client.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, label, value))); err != nil {
		t.Fatal(err)
	}
}
