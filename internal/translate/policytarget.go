// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Reasons of Accepted=False on an AuthorizationPolicy that nobody enforces.
const (
	ReasonTargetNotFound = "TargetNotFound"
	ReasonNotEnforced    = "NotEnforced"
)

// targetFindings are about a policy with targetRefs. It is for the waypoint or gateway that it names, and for no node proxy; if that
// does not exist or knows no policies, whoever wrote it must not think that it guards anything.
func (x *index) targetFindings(p *world.AuthorizationPolicy) []Finding {
	reason := ""
	var messages []string
	for i, t := range p.Targets {
		why, message := x.targetProblem(p, t)
		if why == "" {
			continue
		}
		if reason == "" {
			reason = why
		}
		messages = append(messages, fmt.Sprintf("spec.targetRefs[%d]: %s: the policy is not in force there", i, message))
	}
	if reason == "" {
		return nil
	}
	return []Finding{{Type: ConditionAccepted, Status: isFalse, Reason: reason, Message: shorten(strings.Join(messages, "; ")), Generation: p.Generation}}
}

func (x *index) targetProblem(p *world.AuthorizationPolicy, t world.PolicyTarget) (reason, message string) {
	k := p.In(p.Namespace, t.Name)
	switch {
	case t.Group == gatewayv1.GroupName && t.Kind == "Gateway":
		g := x.state.Gateways[k]
		if g == nil {
			return ReasonTargetNotFound, fmt.Sprintf("there is no Gateway %s/%s", k.Namespace, k.Name)
		}
		if x.ourClass(g.Class) {
			return ReasonNotEnforced, fmt.Sprintf("Gateway %s/%s is of class %s, whose gateways decide by what is exported, not by policies", k.Namespace, k.Name, g.Class)
		}
	case t.Group == gatewayv1.GroupName && t.Kind == "GatewayClass":
		switch {
		case x.state.GatewayClasses[p.In("", t.Name)] == nil:
			return ReasonTargetNotFound, "there is no GatewayClass " + t.Name
		case x.ourClass(t.Name):
			return ReasonNotEnforced, fmt.Sprintf("gateways of class %s decide by what is exported, not by policies", t.Name)
		}
	case t.Group == "" && t.Kind == "Service":
		s := x.state.Services[k]
		if s == nil {
			return ReasonTargetNotFound, fmt.Sprintf("there is no Service %s/%s", k.Namespace, k.Name)
		}
		if waypoint, _ := x.serviceWaypoint(s); waypoint == nil {
			return ReasonNotEnforced, fmt.Sprintf("Service %s/%s is not behind a waypoint, which alone could decide", k.Namespace, k.Name)
		}
	default:
		return ReasonNotEnforced, fmt.Sprintf("a %s is nothing that anybody here decides for", cmp.Or(t.Kind, "target without a kind"))
	}
	return "", ""
}

// ourClass says whether gateways of a class of our cluster are ours.
func (x *index) ourClass(name string) bool {
	c := x.state.GatewayClasses[world.Key{Cluster: x.config.LocalCluster, Name: name}]
	return c != nil && c.Controller == ControllerName
}

// targeting notes the policies of a namespace that are about something in it.
func (t *touched) targeting(x *index, namespace string) {
	for k := range x.policiesIn[namespace] {
		if x.state.AuthorizationPolicies[k].HasTargets {
			t.policies.add(k)
		}
	}
}
