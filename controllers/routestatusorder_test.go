// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Another controller may put its own entries at the end too. If both moved theirs, each write would be news for the other.
func TestParentStatusesKeepPlaces(t *testing.T) {
	refs := []gatewayv1.ParentReference{{Name: "a"}, {Name: "theirs"}, {Name: "b"}}
	var found []translate.Finding
	for _, i := range []int{0, 2} {
		found = append(found, translate.Finding{Parent: world.ReduceParent("ns", refs[i]), Type: "Accepted", Status: "True", Reason: "Accepted"})
	}
	theirs := gatewayv1.RouteParentStatus{ParentRef: refs[1], ControllerName: "example.com/other"}
	names := func(all []gatewayv1.RouteParentStatus) (out []string) {
		for _, s := range all {
			out = append(out, string(s.ParentRef.Name))
		}
		return out
	}
	first := parentStatuses([]gatewayv1.RouteParentStatus{theirs}, refs, "ns", 1, found)
	if got := names(first); !slices.Equal(got, []string{"theirs", "a", "b"}) {
		t.Fatalf("at first: %v", got)
	}
	moved := []gatewayv1.RouteParentStatus{first[1], theirs, first[2]}
	if again := parentStatuses(moved, refs, "ns", 1, found); !equality.Semantic.DeepEqual(again, moved) {
		t.Errorf("what another one ordered was ordered anew: %v", names(again))
	}
	if got := names(parentStatuses(moved, refs, "ns", 1, found[1:])); !slices.Equal(got, []string{"b", "theirs"}) {
		t.Errorf("with one less: %v", got)
	}
}
