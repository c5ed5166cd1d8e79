// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// maxMessage is the longest message that the API takes, in bytes.
const maxMessage = 32768

// setCondition sets one condition; its transition time moves only with its status.
func setCondition(conditions *[]metav1.Condition, c metav1.Condition, generation int64) {
	c.ObservedGeneration = generation
	if c.Reason == "" {
		c.Reason = "Unknown" // the API refuses an empty one
	}
	if len(c.Message) > maxMessage {
		c.Message = c.Message[:maxMessage]
		for !utf8.ValidString(c.Message) {
			c.Message = c.Message[:len(c.Message)-1]
		}
	}
	meta.SetStatusCondition(conditions, c)
}

// applyFindings sets a condition for each finding and removes those of the owned types about which nothing was found. Conditions of
// other types belong to others and stay, and so do those about a later generation than what was found: a replica that led before us has seen it. Listener findings
// are not looked at.
func applyFindings(conditions *[]metav1.Condition, findings []translate.Finding, generation int64, owned ...string) {
	// No condition is about a generation that the object does not have; one that says so was written by hand, and would stay for ever.
	later := func(kind string, about int64) bool {
		c := meta.FindStatusCondition(*conditions, kind)
		return c != nil && about < c.ObservedGeneration && c.ObservedGeneration <= generation
	}
	found, latest := map[string]bool{}, int64(0)
	for _, f := range findings {
		if f.Listener != "" {
			continue
		}
		found[f.Type] = true
		about := observed(f, generation)
		latest = max(latest, about)
		if !later(f.Type, about) {
			setCondition(conditions, conditionOf(f), about)
		}
	}
	for _, t := range owned {
		if !found[t] && (len(found) == 0 || !later(t, latest)) {
			meta.RemoveStatusCondition(conditions, t)
		}
	}
}

func conditionOf(f translate.Finding) metav1.Condition {
	return metav1.Condition{Type: f.Type, Status: metav1.ConditionStatus(f.Status), Reason: f.Reason, Message: f.Message}
}

// observed is the generation that a finding is about. A finding without one is about the object that was read.
func observed(f translate.Finding, generation int64) int64 {
	if f.Generation != 0 {
		return f.Generation
	}
	return generation
}

// of keeps the findings about one listener, or about the whole object for "".
func of(findings []translate.Finding, listener string) []translate.Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f translate.Finding) bool { return f.Listener != listener })
}
