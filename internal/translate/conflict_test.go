// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestConflictsAreToldInBothClusters reads stories of clashes as each of their clusters would that has read the others too: each tells
// the same differences on its own Service, and counts them on its own ServiceScope.
func TestConflictsAreToldInBothClusters(t *testing.T) {
	for file, differences := range map[string][]string{
		"ports-clash":             {"port 80 speaks HTTP in east and gRPC in west", "port 81 is missing in west", "port 82 is missing in east"},
		"ports-missing":           {"port 82 is missing in east", "port 90 is missing in west"},
		"waypoint-in-one-cluster": {"a waypoint is asked for in only one of"},
		"prefer-close":            {"trafficDistribution is"},
	} {
		archive, err := txtar.ParseFile("testdata/" + file + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		whole := world.NewDelta()
		for _, o := range read(t, archive) {
			whole.Put(o)
		}
		state := world.NewState()
		state.Apply(whole)
		for _, reader := range []world.Cluster{"east", "west"} {
			config := testConfig
			config.LocalCluster = reader
			out := Build(state, config)
			k := world.Key{Cluster: reader, Namespace: "demo", Name: "hello"}
			found := out.Findings[world.ObjectRef{Kind: world.KindService, Key: k}]
			i := slices.IndexFunc(found, func(f Finding) bool { return f.Type == ConditionConflicted && f.Status == isTrue })
			if i < 0 {
				t.Errorf("%s: %s does not say %s on its Service: %+v", file, reader, ConditionConflicted, found)
				continue
			}
			for _, d := range differences {
				if !strings.Contains(found[i].Message, d) {
					t.Errorf("%s: %s says %q, which lacks %q", file, reader, found[i].Message, d)
				}
			}
			if s := out.Scopes[world.Key{Cluster: reader, Name: "default"}]; s.ConflictCount != 1 || len(s.Conflicts) != 1 || s.Conflicts[0].Message != found[i].Message {
				t.Errorf("%s: %s's ServiceScope says %+v", file, reader, s)
			}
		}
	}
}
