// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"testing"

	"google.golang.org/grpc/codes"
	"k8s.io/apimachinery/pkg/types"
	pb "sigs.k8s.io/gateway-api-conformance-images/echo-basic/grpcechoserver"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/grpc"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// CrossClusterGRPCRoute: a GRPCRoute leads to a service that only another cluster has.
var CrossClusterGRPCRoute = suite.ConformanceTest{
	ShortName:   "IsthmusCrossClusterGRPCRoute",
	Description: "Calls by a GRPCRoute reach the pods of a service that only another cluster has.",
	Features:    []features.FeatureName{features.SupportGateway, features.SupportGRPCRoute, SupportMultiCluster},
	Manifests:   []string{"cross-cluster-grpcroute.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		clustersMustBeReady(t, s)
		route := types.NamespacedName{Namespace: multiclusterNamespace, Name: "cross-cluster-grpc"}
		address := kubernetes.GatewayAndRoutesMustBeAccepted(t, s.Client, s.TimeoutConfig, s.ControllerName, kubernetes.NewGatewayRef(webGateway), &gatewayv1.GRPCRoute{}, true, route)
		grpc.MakeRequestAndExpectEventuallyConsistentResponse(t, s.GRPCClient, s.TimeoutConfig, address, grpc.ExpectedResponse{
			EchoRequest:     &pb.EchoRequest{},
			RequestMetadata: &grpc.RequestMetadata{Authority: "grpc.cross-cluster.example.com"},
			Response:        grpc.Response{Code: codes.OK},
			Backend:         "remote-grpc",
			Namespace:       multiclusterNamespace,
		})
	},
}
