// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// published is what GatewayClasses say that they support, and what an XMesh says of the mesh: the very files that the controller has.
func published(t *testing.T) []features.FeatureName {
	t.Helper()
	var text []byte
	for _, name := range []string{"supportedfeatures.txt", "meshfeatures.txt"} {
		list, err := os.ReadFile("../controllers/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, list...), '\n')
	}
	var out []features.FeatureName
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, features.FeatureName(line))
		}
	}
	return out
}

// agree finds features that are claimed and not shown, and ones that are shown and not claimed. Of the tests that need a feature, those count that
// need nothing else that is not claimed.
func (s selection) agree(claimed []features.FeatureName, all []suite.ConformanceTest) error {
	var errs []error
	shown := map[features.FeatureName]bool{} // features that the suite knows → all their tests are run
	counted := map[features.FeatureName]int{}
	for _, t := range all {
		for _, f := range t.Features {
			others := slices.DeleteFunc(slices.Clone(t.Features), func(o features.FeatureName) bool { return o == f })
			if slices.ContainsFunc(others, func(o features.FeatureName) bool { return !slices.Contains(claimed, o) }) {
				continue
			}
			if counted[f] == 0 {
				shown[f] = true
			}
			counted[f]++
			if !s.runs(t.ShortName) {
				shown[f] = false
				if slices.Contains(claimed, f) {
					errs = append(errs, fmt.Errorf("%s is claimed, but %s, which needs it, is not run", f, t.ShortName))
				}
			}
		}
	}
	for _, f := range claimed {
		if counted[f] == 0 {
			errs = append(errs, fmt.Errorf("%s is claimed, but no test shows it", f))
		}
	}
	for f, all := range shown {
		if all && !slices.Contains(claimed, f) {
			errs = append(errs, fmt.Errorf("all %d tests that need %s are run, but it is not claimed", counted[f], f))
		}
	}
	return errors.Join(errs...)
}

// TestFeatures needs no cluster: what classes and meshes publish is what the tests that are run show.
func TestFeatures(t *testing.T) {
	s, err := readSelection(selectionYAML)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.agree(published(t), tests.ConformanceTests); err != nil {
		t.Error(err)
	}
}

// TestFeaturesAreChecked shows that a claim too many or too few does not pass.
func TestFeaturesAreChecked(t *testing.T) {
	all := []suite.ConformanceTest{
		{ShortName: "First", Features: []features.FeatureName{"Gateway"}},
		{ShortName: "Second", Features: []features.FeatureName{"Gateway", "HTTPRoute"}},
		{ShortName: "Third", Features: []features.FeatureName{"Gateway", "HTTPRoute", "Odd"}},
	}
	for _, test := range []struct {
		run, claimed []string
		want         string
	}{
		{[]string{"First"}, []string{"Gateway"}, ""},
		{[]string{"First", "Second"}, []string{"Gateway", "HTTPRoute"}, ""},
		{[]string{"First", "Second"}, []string{"Gateway"}, "all 1 tests that need HTTPRoute are run"},
		{[]string{"First", "Second", "Third"}, []string{"Gateway", "HTTPRoute"}, "all 1 tests that need Odd are run"},
		{[]string{"First"}, []string{"Gateway", "HTTPRoute"}, "HTTPRoute is claimed, but Second"},
		{[]string{"First", "Second"}, []string{"Gateway", "HTTPRoute", "Odd"}, "Odd is claimed, but Third"},
		{[]string{"First"}, []string{"Gateway", "Stranger"}, "Stranger is claimed, but no test shows it"},
	} {
		var s selection
		for _, name := range test.run {
			s.Run = append(s.Run, chosen{Test: name})
		}
		var claimed []features.FeatureName
		for _, f := range test.claimed {
			claimed = append(claimed, features.FeatureName(f))
		}
		err := s.agree(claimed, all)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("run %v, claimed %v: %v, want %q", test.run, test.claimed, err, test.want)
		}
	}
}
