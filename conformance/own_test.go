// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	upstream "sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/conformance/tests"
)

var (
	remoteKubeconfig = flag.String("remote-kubeconfig", "", "the kubeconfig of another cluster, which the one of KUBECONFIG reads: for our own tests of routes across clusters")
	oneCluster       = flag.Bool("one-cluster", false, "there is no other cluster: our own tests that need one are left out")
)

// addOwn has the suite's runner run our own tests behind the suite's. It reads them from where it reads its own, and skips none of them: their features are not of the API. What it leaves
// out it gives the names of: the tests that need another cluster, if the caller says that there is none.
func addOwn(t *testing.T, opts *suite.ConformanceOptions) (leftOut []string) {
	if err := v1alpha1.AddToScheme(opts.Client.Scheme()); err != nil {
		t.Fatal(err)
	}
	suites := upstream.ConformanceTests
	t.Cleanup(func() { upstream.ConformanceTests = suites })
	opts.ManifestFS = append(opts.ManifestFS, tests.Manifests)
	opts.SupportedFeatures = append(opts.SupportedFeatures, tests.Features...)
	own := tests.ConformanceTests
	if *oneCluster {
		own, leftOut = ofOneCluster(own)
	} else {
		setUpRemote(t, opts)
	}
	upstream.ConformanceTests = slices.Concat(suites, own)
	return leftOut
}

// ofOneCluster parts the tests that need one cluster from those that need another one beside it.
func ofOneCluster(own []suite.ConformanceTest) (one []suite.ConformanceTest, more []string) {
	for _, test := range own {
		if slices.Contains(test.Features, tests.SupportMultiCluster) {
			more = append(more, test.ShortName)
		} else {
			one = append(one, test)
		}
	}
	return one, more
}

// setUpRemote connects to the other cluster, and has both get ready for the tests that need them.
func setUpRemote(t *testing.T, opts *suite.ConformanceOptions) {
	if *remoteKubeconfig == "" {
		t.Fatal("our own tests of routes across clusters need another cluster: -remote-kubeconfig names it, or -one-cluster leaves them out")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *remoteKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if tests.Remote, err = client.New(config, client.Options{Scheme: opts.Client.Scheme()}); err != nil {
		t.Fatal(err)
	}
	applier := kubernetes.Applier{NamespaceLabels: opts.NamespaceLabels, GatewayClass: opts.GatewayClassName, ManifestFS: opts.ManifestFS}
	tests.SetUpClusters(t, opts.Client, applier, opts.TimeoutConfig, opts.CleanupBaseResources)
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
	one, more := ofOneCluster(tests.ConformanceTests)
	if len(one) == 0 || len(more) == 0 || len(one)+len(more) != len(tests.ConformanceTests) {
		t.Errorf("of %d tests %d need one cluster and %d more", len(tests.ConformanceTests), len(one), len(more))
	}
	for _, f := range features.SetsToNamesSet(features.AllFeatures).UnsortedList() {
		if slices.Contains(tests.Features, f) {
			t.Errorf("feature %s is one of the API", f)
		}
	}
}
