// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"fmt"
	"net/http"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// CrossClusterPolicy: the policies of the cluster where a pod is decide who reaches it, and a Gateway of another cluster is somebody.
var CrossClusterPolicy = suite.ConformanceTest{
	ShortName:   "IsthmusCrossClusterPolicy",
	Description: "A policy of another cluster that denies the identity of a Gateway keeps its requests from the pods there, and from no others.",
	Features:    []features.FeatureName{features.SupportGateway, features.SupportHTTPRoute, SupportMultiCluster},
	Manifests:   []string{"cross-cluster-policy.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		const host = "policy.cross-cluster.example.com"
		clustersMustBeReady(t, s)
		route := types.NamespacedName{Namespace: multiclusterNamespace, Name: "cross-cluster-policy"}
		address := kubernetes.GatewayAndHTTPRoutesMustBeAccepted(t, s.Client, s.TimeoutConfig, s.ControllerName, kubernetes.NewGatewayRef(webGateway), route)
		sitesMustBe(t, s, address, host, "/only-remote", remote)

		t.Run("A policy there denies this Gateway", func(t *testing.T) {
			s.Applier.MustApplyWithCleanup(t, Remote, s.TimeoutConfig, "cross-cluster-policy-remote.yaml", true) // it goes with this part of the test
			eventually(t, s.TimeoutConfig.MaxTimeToConsistency, "requests to pods there are refused", func() error {
				a, err := ask(address, host, "/only-remote")
				if err == nil && (a.status != http.StatusServiceUnavailable || a.reason != "connect_failed") {
					err = fmt.Errorf("status %d, %s, pod %q; want 503, connect_failed", a.status, a.reason, a.pod)
				}
				return err
			})
			sitesMustBe(t, s, address, host, "/both", local)
		})
		t.Run("Without the policy it is let in again", func(t *testing.T) {
			sitesMustBe(t, s, address, host, "/only-remote", remote)
		})
	},
}
