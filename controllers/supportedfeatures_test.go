// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// The API has a list of at most 64 names, each once, in ascending order; and a class says only what the API knows, and nothing of a mesh.
func TestSupportedFeatures(t *testing.T) {
	byName := func(a, b gatewayv1.SupportedFeature) int { return strings.Compare(string(a.Name), string(b.Name)) }
	if len(supportedFeatures) == 0 || len(supportedFeatures) > 64 || !slices.IsSortedFunc(supportedFeatures, byName) {
		t.Errorf("%d features, or they are not sorted: %v", len(supportedFeatures), supportedFeatures)
	}
	for i, f := range supportedFeatures {
		known := features.GetFeature(features.FeatureName(f.Name))
		if known == (features.Feature{}) || features.MeshCoreFeatures.Has(known) || features.MeshExtendedFeatures.Has(known) {
			t.Errorf("%s is no feature of a class", f.Name)
		}
		if i > 0 && supportedFeatures[i-1] == f {
			t.Errorf("%s is there twice", f.Name)
		}
	}
}
