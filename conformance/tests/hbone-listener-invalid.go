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
	Description: "Listeners for HBONE with TLS that is passed on, a hostname, a certificate or unknown options are not accepted.",
	Features:    []features.FeatureName{features.SupportGateway, SupportHBONE},
	Manifests:   []string{"hbone-listener-invalid.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		gateway := types.NamespacedName{Namespace: suite.InfrastructureNamespace, Name: "hbone-listener-invalid"}
		for _, c := range []struct {
			listener string
			accepted metav1.ConditionStatus
			reason   gatewayv1.ListenerConditionReason
		}{
			{"good", metav1.ConditionTrue, gatewayv1.ListenerReasonAccepted},
			{"passed-on", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{"no-tls", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{"hostname", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{"certificate", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
			{"option", metav1.ConditionFalse, gatewayv1.ListenerReasonUnsupportedValue},
		} {
			t.Run(c.listener, func(t *testing.T) {
				kubernetes.GatewayListenerMustHaveConditions(t, s.Client, s.TimeoutConfig, gateway, c.listener, []metav1.Condition{
					{Type: string(gatewayv1.ListenerConditionAccepted), Status: c.accepted, Reason: string(c.reason)},
				})
			})
		}
		kubernetes.GatewayMustHaveCondition(t, s.Client, s.TimeoutConfig, gateway, metav1.Condition{
			Type: string(gatewayv1.GatewayConditionAccepted), Status: metav1.ConditionTrue, Reason: string(gatewayv1.GatewayReasonListenersNotValid),
		})
	},
}
