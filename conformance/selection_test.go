// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
	"sigs.k8s.io/yaml"
)

//go:embed gatewayapi.yaml
var selectionYAML []byte

// selection is gatewayapi.yaml: which tests of a suite are run, and why the others are not.
type selection struct {
	Profiles []suite.ConformanceProfileName `json:"profiles"`
	Run      []chosen                       `json:"run"`
	LeftOut  []leftOut                      `json:"leftOut"`
}

// chosen is a test that must pass, and what that shows.
type chosen struct {
	Test  string `json:"test"`
	Shows string `json:"shows"`
}

// leftOut is why some tests are not run: those named, and those not named anywhere that need one of the features.
type leftOut struct {
	Reason   string                 `json:"reason"`
	Tests    []string               `json:"tests"`
	Features []features.FeatureName `json:"features"`
}

func readSelection(data []byte) (selection, error) {
	var s selection
	if err := yaml.UnmarshalStrict(data, &s); err != nil {
		return selection{}, fmt.Errorf("gatewayapi.yaml: %w", err)
	}
	return s, nil
}

// runs says whether a test is run.
func (s selection) runs(test string) bool {
	return slices.ContainsFunc(s.Run, func(c chosen) bool { return c.Test == test })
}

// reason is why a test is left out; empty if nothing says so. Its name counts before its features.
func (s selection) reason(test suite.ConformanceTest) string {
	for _, l := range s.LeftOut {
		if slices.Contains(l.Tests, test.ShortName) {
			return l.Reason
		}
	}
	for _, l := range s.LeftOut {
		if slices.ContainsFunc(l.Features, func(f features.FeatureName) bool { return slices.Contains(test.Features, f) }) {
			return l.Reason
		}
	}
	return ""
}

// gates are the features that the chosen tests need. The suite runs a test only if it was told that they are supported,
// so these open its gates; they say nothing of the features' other tests.
func (s selection) gates(all []suite.ConformanceTest) []features.FeatureName {
	var out []features.FeatureName
	for _, t := range all {
		if s.runs(t.ShortName) {
			out = append(out, t.Features...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// skips names the tests that are not run.
func (s selection) skips(all []suite.ConformanceTest) []string {
	var out []string
	for _, t := range all {
		if !s.runs(t.ShortName) {
			out = append(out, t.ShortName)
		}
	}
	return out
}

// check finds tests that are missing, named twice, unknown, or left without a reason.
func (s selection) check(all []suite.ConformanceTest) error {
	var errs []error
	known, named := map[string]bool{}, map[string]int{}
	for _, t := range all {
		known[t.ShortName] = true
	}
	for _, c := range s.Run {
		named[c.Test]++
		if c.Shows == "" {
			errs = append(errs, fmt.Errorf("%s is run, but not what it shows is said", c.Test))
		}
	}
	for _, l := range s.LeftOut {
		if l.Reason == "" {
			errs = append(errs, fmt.Errorf("left out without a reason: tests %v, features %v", l.Tests, l.Features))
		}
		for _, name := range l.Tests {
			named[name]++
		}
	}
	for name, times := range named {
		if !known[name] {
			errs = append(errs, fmt.Errorf("the suite has no test %s", name))
		}
		if times > 1 {
			errs = append(errs, fmt.Errorf("%s is named %d times", name, times))
		}
	}
	for _, t := range all {
		if !s.runs(t.ShortName) && s.reason(t) == "" {
			errs = append(errs, fmt.Errorf("%s (needs %v) is neither run nor left out for a reason", t.ShortName, t.Features))
		}
	}
	return errors.Join(errs...)
}

// TestSelection needs no cluster: every test of the suite is accounted for.
func TestSelection(t *testing.T) {
	s, err := readSelection(selectionYAML)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.check(tests.ConformanceTests); err != nil {
		t.Error(err)
	}
	t.Logf("%d of the suite's %d tests are run", len(s.Run), len(tests.ConformanceTests))
}

// TestSelectionIsChecked shows that a list with a gap, a stranger or a double does not pass.
func TestSelectionIsChecked(t *testing.T) {
	all := []suite.ConformanceTest{
		{ShortName: "First", Features: []features.FeatureName{"Gateway"}},
		{ShortName: "Second", Features: []features.FeatureName{"Gateway", "HTTPRoute"}},
	}
	for _, test := range []struct{ name, yaml, want string }{
		{"complete", "run: [{test: First, shows: x}]\nleftOut: [{reason: r, features: [HTTPRoute]}]", ""},
		{"missing", "run: [{test: First, shows: x}]", "Second (needs [Gateway HTTPRoute]) is neither run nor left out"},
		{"unknown", "run: [{test: First, shows: x}]\nleftOut: [{reason: r, tests: [Second, Third]}]", "the suite has no test Third"},
		{"twice", "run: [{test: First, shows: x}]\nleftOut: [{reason: r, tests: [First, Second]}]", "First is named 2 times"},
		{"no reason", "run: [{test: First, shows: x}]\nleftOut: [{tests: [Second]}]", "left out without a reason"},
		{"nothing shown", "run: [{test: First}]\nleftOut: [{reason: r, tests: [Second]}]", "First is run, but not"},
		{"misspelt key", "runs: []", "unknown field"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := readSelection([]byte(test.yaml))
			if err == nil {
				err = s.check(all)
			}
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
