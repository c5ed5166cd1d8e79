// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Entries of others stay where and as they are, ours come and go, and there are never more than the API takes.
func TestAncestorStatuses(t *testing.T) {
	foreign := func(name string) gatewayv1.PolicyAncestorStatus {
		return gatewayv1.PolicyAncestorStatus{
			AncestorRef: gatewayv1.ParentReference{Name: gatewayv1.ObjectName(name)}, ControllerName: "example.com/other",
			Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionFalse, Reason: "Odd", ObservedGeneration: 3}},
		}
	}
	about := func(names ...string) (out []translate.Finding) {
		for _, n := range names {
			p := world.RouteParent{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "ns", Name: n}
			out = append(out, translate.Finding{Parent: p, Type: "Accepted", Status: "True", Reason: "Accepted", Generation: 7},
				translate.Finding{Parent: p, Type: "ResolvedRefs", Status: "True", Reason: "ResolvedRefs", Generation: 7})
		}
		return out
	}
	names := func(all []gatewayv1.PolicyAncestorStatus) (out []string) {
		for _, s := range all {
			out = append(out, string(s.AncestorRef.Name))
		}
		return out
	}
	first := ancestorStatuses([]gatewayv1.PolicyAncestorStatus{foreign("a")}, 7, about("a", "b"))
	if got := names(first); !slices.Equal(got, []string{"a", "a", "b"}) || !equality.Semantic.DeepEqual(first[0], foreign("a")) {
		t.Fatalf("at first: %v, %+v", got, first[0])
	}
	if c := first[1].Conditions; len(c) != 2 || c[0].ObservedGeneration != 7 || *first[1].AncestorRef.Namespace != "ns" || *first[1].AncestorRef.Kind != "Gateway" {
		t.Errorf("ours: %+v", first[1])
	}
	moved := []gatewayv1.PolicyAncestorStatus{first[1], first[0], first[2]}
	moved[0].Conditions = append(moved[0].Conditions, metav1.Condition{Type: "example.com/Theirs", Status: metav1.ConditionTrue, Reason: "So"})
	if again := ancestorStatuses(moved, 7, about("a", "b")); !equality.Semantic.DeepEqual(again, moved) {
		t.Errorf("what did not change was changed: %+v", again)
	}
	if got := ancestorStatuses(moved, 7, nil); !slices.Equal(names(got), []string{"a"}) || got[0].ControllerName != "example.com/other" {
		t.Errorf("without findings: %v", names(got))
	}
	var theirs []gatewayv1.PolicyAncestorStatus
	var many []string
	for i := range 12 {
		theirs, many = append(theirs, foreign(fmt.Sprint("f", i))), append(many, fmt.Sprint("g", i))
	}
	if got := names(ancestorStatuses(theirs, 7, about(many...))); len(got) != 16 || got[12] != "g0" || got[15] != "g3" {
		t.Errorf("with twelve of others: %v", got)
	}
}
