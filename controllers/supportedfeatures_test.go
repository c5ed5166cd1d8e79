// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// The API has a list of at most 64 names, each once, in ascending order; and a class says only what the API knows, and nothing of a mesh, as a mesh says nothing of Gateways.
func TestSupportedFeatures(t *testing.T) {
	ofMesh := func(f features.Feature) bool {
		return features.MeshCoreFeatures.Has(f) || features.MeshExtendedFeatures.Has(f)
	}
	ofClass := func(f features.Feature) bool { return !ofMesh(f) }
	for name, list := range map[string]struct {
		published []gatewayv1.SupportedFeature
		mayHave   func(features.Feature) bool
	}{"a class": {supportedFeatures, ofClass}, "a mesh": {meshFeatures, ofMesh}} {
		byName := func(a, b gatewayv1.SupportedFeature) int { return strings.Compare(string(a.Name), string(b.Name)) }
		if len(list.published) == 0 || len(list.published) > 64 || !slices.IsSortedFunc(list.published, byName) {
			t.Errorf("%d features of %s, or they are not sorted: %v", len(list.published), name, list.published)
		}
		for i, f := range list.published {
			known := features.GetFeature(features.FeatureName(f.Name))
			if known == (features.Feature{}) || !list.mayHave(known) {
				t.Errorf("%s is no feature of %s", f.Name, name)
			}
			if i > 0 && list.published[i-1] == f {
				t.Errorf("%s has %s twice", name, f.Name)
			}
		}
	}
}
