// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// TestConditionsOfLaterGenerationsStay: what was found of an earlier generation takes nothing away that is about a later one.
func TestConditionsOfLaterGenerationsStay(t *testing.T) {
	const generation = 3 // of the object
	for _, tc := range []struct {
		name         string
		said, found  int64 // generations
		wantReplaced bool
	}{
		{"an earlier one was said", 1, 2, true},
		{"the same was said", 2, 2, true},
		{"a later one was said", 3, 2, false},
		{"one that the object does not have was said", 4, 2, true},
		{"what was found is of the object that was read", 3, 0, true},
	} {
		conditions := []metav1.Condition{{Type: "Accepted", Status: "False", Reason: "Before", ObservedGeneration: tc.said}}
		applyFindings(&conditions, []translate.Finding{{Type: "Accepted", Status: "True", Reason: "Now", Generation: tc.found}}, generation, "Accepted")
		if len(conditions) != 1 || (conditions[0].Reason == "Now") != tc.wantReplaced {
			t.Errorf("%s: the conditions are %+v, want them replaced: %v", tc.name, conditions, tc.wantReplaced)
		}
	}
}

// TestConditionsThatWereNotFoundGo: what is not found any more is taken away, unless a later generation than what was found has it.
func TestConditionsThatWereNotFoundGo(t *testing.T) {
	const generation = 3
	accepted := func(about int64) []translate.Finding {
		return []translate.Finding{{Type: "Accepted", Status: "True", Reason: "Accepted", Generation: about}}
	}
	for _, tc := range []struct {
		name  string
		said  int64 // generation
		found []translate.Finding
		stays bool
	}{
		{"of an earlier one", 1, accepted(2), false},
		{"of the same", 2, accepted(2), false},
		{"of a later one", 3, accepted(2), true},
		{"of one that the object does not have", 4, accepted(2), false},
		{"nothing was found", 3, nil, false},
	} {
		conditions := []metav1.Condition{{Type: "PartiallyInvalid", Status: "True", Reason: "Before", ObservedGeneration: tc.said}}
		applyFindings(&conditions, tc.found, generation, "Accepted", "PartiallyInvalid")
		if stays := conditions != nil && len(conditions) == len(tc.found)+1; stays != tc.stays {
			t.Errorf("%s: the conditions are %+v, want it to stay: %v", tc.name, conditions, tc.stays)
		}
	}
}
