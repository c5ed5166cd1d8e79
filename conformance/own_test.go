// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"slices"
	"strings"
	"testing"

	upstream "sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/conformance/tests"
)

// addOwn has the suite's runner run our own tests behind the suite's. It reads them from where it reads its own, and skips none of them: their features are not of the API.
func addOwn(t *testing.T, opts *suite.ConformanceOptions) {
	if err := v1alpha1.AddToScheme(opts.Client.Scheme()); err != nil {
		t.Fatal(err)
	}
	suites := upstream.ConformanceTests
	t.Cleanup(func() { upstream.ConformanceTests = suites })
	upstream.ConformanceTests = slices.Concat(suites, tests.ConformanceTests)
	opts.ManifestFS = append(opts.ManifestFS, tests.Manifests)
	opts.SupportedFeatures = append(opts.SupportedFeatures, tests.Features...)
}

// isOwn says whether a test is one of ours.
func isOwn(test suite.ConformanceTest) bool {
	return slices.ContainsFunc(tests.ConformanceTests, func(o suite.ConformanceTest) bool { return o.ShortName == test.ShortName })
}

// TestOwn needs no cluster: our tests are told from the suite's by their names, each has its manifest, and needs a feature that no profile of the suite has, so that no report counts it.
func TestOwn(t *testing.T) {
	for _, own := range tests.ConformanceTests {
		if !strings.HasPrefix(own.ShortName, "Isthmus") {
			t.Errorf("%s does not begin with Isthmus", own.ShortName)
		}
		if !slices.ContainsFunc(own.Features, func(f features.FeatureName) bool { return slices.Contains(tests.Features, f) }) {
			t.Errorf("%s needs features of the suite alone: %v", own.ShortName, own.Features)
		}
		for _, name := range own.Manifests {
			if _, err := tests.Manifests.ReadFile(name); err != nil {
				t.Errorf("%s: %v", own.ShortName, err)
			}
		}
	}
	for _, f := range features.SetsToNamesSet(features.AllFeatures).UnsortedList() {
		if slices.Contains(tests.Features, f) {
			t.Errorf("feature %s is one of the API", f)
		}
	}
}
