// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// CrossClusterHTTPRoute: an HTTPRoute leads to services that clusters share, whichever of them have pods.
var CrossClusterHTTPRoute = suite.ConformanceTest{
	ShortName:   "IsthmusCrossClusterHTTPRoute",
	Description: "An HTTPRoute's requests reach pods of all clusters that share its backend, by capacity and weight, whether that is a Service or a ServiceImport.",
	Features:    []features.FeatureName{features.SupportGateway, features.SupportHTTPRoute, SupportMultiCluster},
	Manifests:   []string{"cross-cluster-httproute.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		const host = "cross-cluster.example.com"
		clustersMustBeReady(t, s)
		route := types.NamespacedName{Namespace: multiclusterNamespace, Name: "cross-cluster"}
		address := kubernetes.GatewayAndHTTPRoutesMustBeAccepted(t, s.Client, s.TimeoutConfig, s.ControllerName, kubernetes.NewGatewayRef(webGateway), route)
		kubernetes.HTTPRouteMustHaveResolvedRefsConditionsTrue(t, s.Client, s.TimeoutConfig, route, webGateway)
		sitesMustBe(t, s, address, host, "/import/only-remote", remote) // the Gateway has the route

		half := map[string]float64{local: 0.5, remote: 0.5}
		t.Run("A Service of both clusters is answered by the pods of both, by their number", func(t *testing.T) {
			sharesMustBe(t, address, host, "/both", half)
		})
		t.Run("A ServiceImport of the same name is the same", func(t *testing.T) {
			sharesMustBe(t, address, host, "/import/both", half)
		})
		t.Run("Weights divide requests between Services of one cluster each", func(t *testing.T) {
			sharesMustBe(t, address, host, "/weights", map[string]float64{local: 0.75, remote: 0.25})
		})
		t.Run("A ServiceImport of a service that is not shared does not resolve", func(t *testing.T) {
			kubernetes.HTTPRouteMustHaveCondition(t, s.Client, s.TimeoutConfig, types.NamespacedName{Namespace: multiclusterNamespace, Name: "cross-cluster-kept"}, webGateway, metav1.Condition{
				Type: string(gatewayv1.RouteConditionResolvedRefs), Status: metav1.ConditionFalse, Reason: string(gatewayv1.RouteReasonBackendNotFound),
			})
			eventually(t, s.TimeoutConfig.MaxTimeToConsistency, "its requests are answered 500", func() error {
				a, err := ask(address, "kept.cross-cluster.example.com", "/")
				if err == nil && a.status != 500 {
					err = fmt.Errorf("status %d, pod %q", a.status, a.pod)
				}
				return err
			})
		})
	},
}
