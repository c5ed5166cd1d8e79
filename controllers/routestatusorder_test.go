// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// known says of every parent about which nothing was found that it is gone.
func known(gatewayv1.ParentReference) bool { return false }

// A replica that begins to lead may not have heard yet of a Gateway that the one before it has seen.
func TestParentStatusesKeepWhatIsNotKnown(t *testing.T) {
	refs := []gatewayv1.ParentReference{{Name: "seen"}, {Name: "unseen"}, {Name: "gone"}, {Name: "never-ours"}}
	entry := func(ref gatewayv1.ParentReference, controller gatewayv1.GatewayController) gatewayv1.RouteParentStatus {
		return gatewayv1.RouteParentStatus{ParentRef: ref, ControllerName: controller, Conditions: []metav1.Condition{{Type: "Accepted", Status: "True", Reason: "Accepted", ObservedGeneration: 3}}}
	}
	before := []gatewayv1.RouteParentStatus{
		entry(refs[1], translate.ControllerName), entry(refs[3], "example.com/other"), entry(refs[0], translate.ControllerName), entry(refs[2], translate.ControllerName),
		entry(gatewayv1.ParentReference{Name: "no-parent-any-more"}, translate.ControllerName),
	}
	found := []translate.Finding{{Parent: world.ReduceParent("ns", refs[0]), Type: "Accepted", Status: "False", Reason: "NoMatchingParent", Generation: 3}}
	var asked []string
	after := parentStatuses(before, refs, "ns", 3, found, func(ref gatewayv1.ParentReference) bool {
		asked = append(asked, string(ref.Name))
		return ref.Name != "gone"
	})
	var got []string
	for _, s := range after {
		got = append(got, string(s.ParentRef.Name)+" "+verdict(s.Conditions, 3, "Accepted"))
	}
	if want := []string{"seen False/NoMatchingParent", "never-ours True/Accepted", "unseen True/Accepted"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Equal(asked, []string{"unseen", "gone"}) {
		t.Errorf("it was asked about %q", asked)
	}
}

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
	first := parentStatuses([]gatewayv1.RouteParentStatus{theirs}, refs, "ns", 1, found, known)
	if got := names(first); !slices.Equal(got, []string{"theirs", "a", "b"}) {
		t.Fatalf("at first: %v", got)
	}
	moved := []gatewayv1.RouteParentStatus{first[1], theirs, first[2]}
	if again := parentStatuses(moved, refs, "ns", 1, found, known); !equality.Semantic.DeepEqual(again, moved) {
		t.Errorf("what another one ordered was ordered anew: %v", names(again))
	}
	if got := names(parentStatuses(moved, refs, "ns", 1, found[1:], known)); !slices.Equal(got, []string{"b", "theirs"}) {
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
	written := parentStatuses(nil, refs, "ns", 7, found, known)
	if len(written) != 1 || !equality.Semantic.DeepEqual(written[0].ParentRef, refs[0]) || len(written[0].Conditions) != 2 || written[0].Conditions[1].ObservedGeneration != 7 {
		t.Fatalf("%+v", written)
	}
	if after := parentStatuses(written, refs, "ns", 7, found[:1], known); len(after) != 1 || len(after[0].Conditions) != 1 {
		t.Errorf("without the second one: %+v", after)
	}
}
