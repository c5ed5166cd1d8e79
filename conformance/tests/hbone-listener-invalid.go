// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// HBONEListenerInvalid: what a listener for HBONE cannot have is a condition at that listener, and others are served.
var HBONEListenerInvalid = suite.ConformanceTest{
	ShortName:   "IsthmusHBONEListenerInvalid",
	Description: "Listeners for HBONE with TLS that is passed on, a hostname, a certificate or unknown options are not accepted, and neither are other protocols at a waypoint.",
	Features:    []features.FeatureName{features.SupportGateway, SupportHBONE},
	Manifests:   []string{"hbone-listener-invalid.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		gateway := types.NamespacedName{Namespace: suite.InfrastructureNamespace, Name: "hbone-listener-invalid"}
		waypoint := types.NamespacedName{Namespace: suite.InfrastructureNamespace, Name: "hbone-listener-waypoint"}
		for _, c := range []struct {
			gateway  types.NamespacedName
			listener string
			accepted metav1.ConditionStatus
			reason   gatewayv1.ListenerConditionReason
		}{
			{gateway, "good", metav1.ConditionTrue, gatewayv1.ListenerReasonAccepted},
			{gateway, "passed-on", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{gateway, "no-tls", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{gateway, "hostname", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{gateway, "certificate", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{gateway, "option", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{waypoint, "mesh", metav1.ConditionTrue, gatewayv1.ListenerReasonAccepted},
			{waypoint, "hostname", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{waypoint, "http", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedProtocol},
		} {
			t.Run(c.gateway.Name+"/"+c.listener, func(t *testing.T) {
				kubernetes.GatewayListenerMustHaveConditions(t, s.Client, s.TimeoutConfig, c.gateway, c.listener, []metav1.Condition{
					{Type: string(gatewayv1.ListenerConditionAccepted), Status: c.accepted, Reason: string(c.reason)},
				})
			})
		}
		for _, name := range []types.NamespacedName{gateway, waypoint} {
			kubernetes.GatewayMustHaveCondition(t, s.Client, s.TimeoutConfig, name, metav1.Condition{
				Type: string(gatewayv1.GatewayConditionAccepted), Status: metav1.ConditionTrue, Reason: string(gatewayv1.GatewayReasonListenersNotValid),
			})
		}
	},
}
