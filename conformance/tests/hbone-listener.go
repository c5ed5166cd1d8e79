// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// HBONEListener: a listener for HBONE takes the tunnels of other clusters to services that are for them, and nothing else.
var HBONEListener = suite.ConformanceTest{
	ShortName:   "IsthmusHBONEListener",
	Description: "A Gateway with a listener for HBONE is programmed, and its address takes double HBONE for exported services only.",
	Features:    []features.FeatureName{features.SupportGateway, SupportHBONE, SupportServiceScope},
	Manifests:   []string{"hbone-listener.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		name := types.NamespacedName{Namespace: suite.InfrastructureNamespace, Name: "hbone-listener"}
		kubernetes.NamespacesMustBeReady(t, s.Client, s.TimeoutConfig, []string{name.Namespace}) // also its Gateways
		kubernetes.GatewayMustHaveCondition(t, s.Client, s.TimeoutConfig, name, kubernetes.GetGatewayProgrammedCondition())
		address, err := kubernetes.WaitForGatewayAddress(t, s.Client, s.TimeoutConfig, kubernetes.NewGatewayRef(name, "mesh"))
		if err != nil {
			t.Fatal(err)
		}
		p, gateway := newPeer(t, s), gatewayIdentity(t, s, name)
		backend := mesh.Identity{TrustDomain: trustDomain, Namespace: suite.InfrastructureNamespace, ServiceAccount: "default"}
		service := func(name string) string {
			return fmt.Sprintf("%s.%s.svc.cluster.local:8080", name, suite.InfrastructureNamespace)
		}

		t.Run("An exported service answers through both tunnels", func(t *testing.T) {
			eventually(t, s.TimeoutConfig.MaxTimeToConsistency, "the service answers", func() error {
				status, err := p.get(t.Context(), address, gateway, service("hbone-exported"), backend)
				if err == nil && status != 200 {
					err = fmt.Errorf("status %d", status)
				}
				return err
			})
		})
		t.Run("A service that is not exported is refused", func(t *testing.T) {
			_, err := p.get(t.Context(), address, gateway, service("hbone-kept"), backend)
			if status, reason := refusal(err); status != 503 || reason != "not_exported" {
				t.Errorf("%v, want a CONNECT that is refused with 503, not_exported", err)
			}
		})
		t.Run("A pod's own address is refused", func(t *testing.T) {
			_, err := p.get(t.Context(), address, gateway, "192.0.2.1:8080", backend)
			if status, reason := refusal(err); status != 503 || reason != "not_exported" {
				t.Errorf("%v, want a CONNECT that is refused with 503, not_exported", err)
			}
		})
		t.Run("Plaintext is refused", func(t *testing.T) {
			nc, err := net.DialTimeout("tcp", address, callTime)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(callTime))
			fmt.Fprintf(nc, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", service("hbone-exported"))
			answer, err := io.ReadAll(nc)
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection is not ended: %v", err)
			}
			// TLS may say in one alert, of type 21, that this was none.
			if len(answer) > 0 && (answer[0] != 21 || len(answer) != 7) {
				t.Errorf("plaintext is answered %q", answer)
			}
		})
	},
}
