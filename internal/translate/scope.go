// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// verdict is what the ServiceScopes of a cluster say of a service.
type verdict uint8

const (
	unmatched verdict = iota // no entry matches: local
	local
	global
)

// decision is a verdict and the object whose entry made it.
type decision struct {
	verdict verdict
	by      world.Key // zero if unmatched
}

// rules are one ServiceScope, checked as soon as it is asked.
type rules struct {
	scope    *world.ServiceScope
	checked  bool
	entries  []rule
	problems []Finding
}

type rule struct {
	namespaces, services labels.Selector
	verdict              verdict
}

// compile checks the entries of an object. An entry that cannot be read is not in force. If it might have been LOCAL, the
// entries after it are not in force either: they could make global what it was meant to keep out.
func compile(s *world.ServiceScope) rules {
	out := rules{scope: s, checked: true}
	for i, e := range s.Entries {
		path := field.NewPath("spec", "serviceScopeConfigs").Index(i)
		verdict := local
		var problems []string
		reason := v1alpha1.ReasonInvalidSelector
		switch e.Scope {
		case string(v1alpha1.ScopeGlobal):
			verdict = global
		case string(v1alpha1.ScopeLocal):
		default:
			reason = v1alpha1.ReasonInvalidScope
			problems = append(problems, fmt.Sprintf("%s: %q is neither GLOBAL nor LOCAL", path.Child("scope"), e.Scope))
		}
		namespaces, errs := selector(e.Namespaces, path.Child("namespaceSelector"))
		problems = append(problems, errs...)
		services, errs := selector(e.Services, path.Child("servicesSelector"))
		problems = append(problems, errs...)
		if len(problems) == 0 {
			out.entries = append(out.entries, rule{namespaces, services, verdict})
			continue
		}
		rest := "this entry is not in force"
		if ends := verdict != global; ends && i+1 < len(s.Entries) {
			rest = "this entry and those after it are not in force"
		}
		out.problems = append(out.problems, Finding{
			Type: v1alpha1.ServiceScopeAccepted, Status: isFalse, Reason: reason,
			Message: strings.Join(problems, "; ") + "; " + rest, Generation: s.Generation,
		})
		if verdict != global {
			break
		}
	}
	return out
}

const (
	isTrue    = "True"
	isUnknown = "Unknown"
	isFalse   = "False"
)

// selector checks a selector; nil matches everything.
func selector(s *world.Selector, path *field.Path) (labels.Selector, []string) {
	if s == nil {
		return labels.Everything(), nil
	}
	var problems []string
	out := labels.NewSelector()
	add := func(key string, op selection.Operator, values []string, path *field.Path) {
		r, err := labels.NewRequirement(key, op, values, field.WithPath(path))
		if err != nil {
			problems = append(problems, err.Error())
			return
		}
		out = out.Add(*r)
	}
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		add(k, selection.Equals, []string{s.MatchLabels[k]}, path.Child("matchLabels").Key(k))
	}
	for i, r := range s.Requirements {
		at := path.Child("matchExpressions").Index(i)
		op, ok := operators[r.Operator]
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: %q is none of In, NotIn, Exists, DoesNotExist", at.Child("operator"), r.Operator))
			continue
		}
		add(r.Key, op, r.Values, at)
	}
	return out, problems
}

var operators = map[string]selection.Operator{
	string(v1alpha1.OperatorIn):           selection.In,
	string(v1alpha1.OperatorNotIn):        selection.NotIn,
	string(v1alpha1.OperatorExists):       selection.Exists,
	string(v1alpha1.OperatorDoesNotExist): selection.DoesNotExist,
}

// byPriority orders rules: higher priority first, then by name.
func byPriority(a, b rules) int {
	return cmp.Or(cmp.Compare(b.scope.Priority, a.scope.Priority), cmp.Compare(a.scope.Name, b.scope.Name))
}

// decide asks a cluster's rules about a service, whose own labels and whose namespace's labels are given.
func decide(ordered []rules, service, namespace map[string]string) decision {
	for _, r := range ordered {
		for _, e := range r.entries {
			if e.namespaces.Matches(labels.Set(namespace)) && e.services.Matches(labels.Set(service)) {
				return decision{e.verdict, r.scope.Key}
			}
		}
	}
	return decision{}
}
