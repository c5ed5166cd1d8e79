// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	upstream "sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/flags"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// class is the GatewayClass under test.
const class = "eastwest"

// TestGatewayAPI runs the Gateway API's suite on the cluster that KUBECONFIG names. The suite's own flag
// -run-test NAME tries any test instead, also one that is left out. With -report-output it runs what the published features and the profiles of the
// list ask for, and writes the report: of the suite's own tests alone, as it is about nothing else. Otherwise our own tests (tests/) are run as well, with any part.
func TestGatewayAPI(t *testing.T) {
	s, err := readSelection(selectionYAML)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.check(tests.ConformanceTests); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("KUBECONFIG") == "" {
		t.Fatal("KUBECONFIG is not set: the suite makes and deletes namespaces, so the cluster must be named")
	}
	opts := upstream.DefaultOptions(t)
	if opts.GatewayClassName == flags.DefaultGatewayClassName {
		opts.GatewayClassName = class
	}
	switch {
	case opts.ReportOutputPath != "":
		// What is published decides, as for everybody else. The suite would read it itself, but for that of the mesh: the standard channel has no object that says it.
		opts.ConformanceProfiles, opts.SupportedFeatures = s.Profiles, published(t)
	case opts.RunTest == "":
		// Of the whole list, also for a part of it: some tests are about features that are not supported.
		opts.SupportedFeatures = s.gates(tests.ConformanceTests)
		if s.Run, err = partOf(s.Run, *part); err != nil {
			t.Fatal(err)
		}
		opts.SkipTests = s.skips(tests.ConformanceTests)
		opts.Hook = func(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
			switch {
			case isOwn(test):
			case !s.runs(test.ShortName):
				t.Logf("left out: %s", s.reason(test))
			case t.Skipped():
				t.Errorf("%s is in the list of tests that are run, but was skipped", test.ShortName)
			}
		}
	}
	var leftOut []string
	if opts.ReportOutputPath == "" {
		leftOut = addOwn(t, &opts)
	}
	tally(t, &opts, leftOut)
	upstream.RunConformanceWithOptions(t, opts)
}

// tally prints at the very end how many tests passed, failed and were skipped: also if the suite cannot take away what it made, when no test's result is
// printed. Above it are our own tests that were left out.
func tally(t *testing.T, opts *suite.ConformanceOptions, leftOut []string) {
	var suites, own count
	t.Cleanup(func() {
		line := "tally: of the suite " + suites.String()
		if opts.ReportOutputPath == "" {
			line += "; of our own " + own.String()
		}
		for _, name := range leftOut {
			fmt.Printf("left out, as it needs another cluster: %s\n", name)
		}
		fmt.Println(line)
	})
	check := opts.Hook
	opts.Hook = func(t *testing.T, test suite.ConformanceTest, s *suite.ConformanceTestSuite) {
		if check != nil {
			check(t, test, s)
		}
		of := &suites
		if isOwn(test) {
			of = &own
		}
		switch {
		case t.Failed():
			of.failed.Add(1)
		case t.Skipped():
			of.skipped.Add(1)
		default:
			of.passed.Add(1)
		}
	}
}

// count is what became of tests. They may run at once.
type count struct{ passed, failed, skipped atomic.Int32 }

// String says it in words.
func (c *count) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed.Load(), c.failed.Load(), c.skipped.Load())
}
