// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"
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

// A Service as a parent has a status of its own, in which the group is empty, as the route says; what does not hold any more goes.
func TestParentStatusesOfServices(t *testing.T) {
	refs := []gatewayv1.ParentReference{{Group: ptr.To(gatewayv1.Group("")), Kind: ptr.To(gatewayv1.Kind("Service")), Name: "cart", SectionName: ptr.To(gatewayv1.SectionName("http"))}}
	parent := world.RouteParent{Kind: "Service", Namespace: "ns", Name: "cart", Section: "http"}
	found := []translate.Finding{
		{Parent: parent, Type: "Accepted", Status: "True", Reason: "Accepted", Generation: 7},
		{Parent: parent, Type: translate.ConditionEnforced, Status: "False", Reason: translate.ReasonNoWaypoint, Generation: 7},
	}
	written := parentStatuses(nil, refs, "ns", 7, found)
	if len(written) != 1 || !equality.Semantic.DeepEqual(written[0].ParentRef, refs[0]) || len(written[0].Conditions) != 2 || written[0].Conditions[1].ObservedGeneration != 7 {
		t.Fatalf("%+v", written)
	}
	if after := parentStatuses(written, refs, "ns", 7, found[:1]); len(after) != 1 || len(after[0].Conditions) != 1 {
		t.Errorf("without the second one: %+v", after)
	}
}
