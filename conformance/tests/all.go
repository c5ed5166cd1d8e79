// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"embed"

	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Manifests are what the tests apply, by the names that they give.
//
//go:embed *.yaml
var Manifests embed.FS

// ConformanceTests are all of them.
var ConformanceTests = []suite.ConformanceTest{
	HBONEListener, HBONEListenerInvalid, ServiceScope,
	CrossClusterHTTPRoute, CrossClusterGRPCRoute, CrossClusterPolicy, CrossClusterFailover, CrossClusterMesh,
}

// Features that the tests need beside those of the API.
const (
	// SupportHBONE is about listeners for HBONE.
	SupportHBONE features.FeatureName = "IsthmusHBONE"
	// SupportServiceScope is about ServiceScopes.
	SupportServiceScope features.FeatureName = "IsthmusServiceScope"
	// SupportMultiCluster is about services of other clusters: a test that needs it needs another cluster.
	SupportMultiCluster features.FeatureName = "IsthmusMultiCluster"
)

// Features are all of them.
var Features = []features.FeatureName{SupportHBONE, SupportServiceScope, SupportMultiCluster}
