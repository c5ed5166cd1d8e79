// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Reasons of the condition on an AuthorizationPolicy with targetRefs.
const (
	ReasonEnforced       = "Enforced"       // True: our gateways judge by it
	ReasonTargetNotFound = "TargetNotFound" // nobody does: there is no such object
	ReasonNotEnforced    = "NotEnforced"    // nobody does
	ReasonTooMany        = "TooMany"        // the Service is closed, as its policies are more than gateways take; or one policy is more than any proxy takes, or beyond what a Gateway takes, as CA certificates and routes may be
)

// Kinds that a policy may target, with the group of Gateway API or none.
const (
	targetGateway = "Gateway"
	targetClass   = "GatewayClass"
	targetService = "Service"
)

// enforcement is who judges by one target of a policy.
type enforcement struct {
	reason  string // why nobody does
	message string
	ours    bool // our gateways do
	// requests says that they do so request by request, where what comes is HTTP.
	requests bool
}

// targetFindings are about a policy with targetRefs. It is for the waypoint or gateway that it names or that is in front of the Service
// that it names, and for no node proxy. If nobody judges by it, whoever wrote it must not think that it guards anything.
func (x *index) targetFindings(p *world.AuthorizationPolicy, c compiled, exported func(serviceName) bool) []Finding {
	f := Finding{Type: ConditionAccepted, Status: isFalse, Generation: p.Generation}
	var problems, places []string
	below := false // somewhere no requests are seen
	for i, t := range p.Targets {
		e := x.enforcement(p, t, exported)
		message := fmt.Sprintf("spec.targetRefs[%d]: %s", i, e.message)
		switch {
		case e.reason != "":
			f.Reason = cmp.Or(f.Reason, e.reason)
			problems = append(problems, message+": the policy is not in force there")
		case e.ours:
			places = append(places, message)
			if !e.requests && c.below != "" {
				below = true
				message += ", and sees no requests: " + c.below
				problems = append(problems, message)
			}
		}
	}
	switch {
	case len(places) > 0 && c.reason != "":
		f.Reason = cmp.Or(f.Reason, c.reason)
		problems = append(problems, c.message)
	case below:
		f.Reason = cmp.Or(f.Reason, ReasonPartlyInForce)
	case len(places) > 0 && len(problems) == 0:
		f.Status, f.Reason = isTrue, ReasonEnforced
		if p.DryRun {
			places = append(places, "it is in dry run, so what it would deny is only told")
		}
		problems = places
	}
	if len(problems) == 0 {
		return nil
	}
	f.Message = shorten(strings.Join(problems, "; "))
	return []Finding{f}
}

func (x *index) enforcement(p *world.AuthorizationPolicy, t world.PolicyTarget, exported func(serviceName) bool) enforcement {
	k := p.In(p.Namespace, t.Name)
	nobody := func(format string, args ...any) enforcement {
		return enforcement{reason: ReasonNotEnforced, message: fmt.Sprintf(format, args...)}
	}
	missing := func(format string, args ...any) enforcement {
		return enforcement{reason: ReasonTargetNotFound, message: fmt.Sprintf(format, args...)}
	}
	ours := func(requests bool, format string, args ...any) enforcement {
		return enforcement{ours: true, requests: requests, message: fmt.Sprintf(format, args...)}
	}
	if beyond := x.beyondGate(p); beyond != "" && t.Group == gatewayv1.GroupName {
		return enforcement{reason: ReasonTooMany, message: beyond}
	}
	switch {
	case t.Group == gatewayv1.GroupName && t.Kind == targetGateway:
		g := x.state.Gateways[k]
		_, serves := x.serving[mesh.GatewayKey{Namespace: k.Namespace, Name: k.Name}]
		switch {
		case g == nil:
			return missing("there is no Gateway %s/%s", k.Namespace, k.Name)
		case serves:
			return ours(seesRequests(g), "Gateway %s/%s judges all streams by it", k.Namespace, k.Name)
		case x.ourClass(g.Class):
			return nobody("Gateway %s/%s is not served", k.Namespace, k.Name)
		}
	case t.Group == gatewayv1.GroupName && t.Kind == targetClass:
		switch {
		case x.state.GatewayClasses[p.In("", t.Name)] == nil:
			return missing("there is no GatewayClass %s", t.Name)
		case !x.ourClass(t.Name):
		case p.Namespace != x.config.SystemNamespace:
			return nobody("only policies in namespace %s may be about a GatewayClass", x.config.SystemNamespace)
		case !x.servesClass(t.Name):
			return nobody("no Gateway of class %s is served", t.Name)
		default:
			return ours(t.Name == ClassWaypoint, "the Gateways of class %s judge all streams by it", t.Name)
		}
	case t.Group == "" && t.Kind == targetService:
		s := x.state.Services[k]
		if s == nil {
			return missing("there is no Service %s/%s", k.Namespace, k.Name)
		}
		waypoint, _ := x.serviceWaypoint(s)
		at := mesh.GatewayKey{Namespace: waypoint.gateway.Namespace, Name: waypoint.gateway.Name}
		serves := x.serves(waypoint.gateway)
		switch {
		case waypoint.at != nil && !serves:
			return enforcement{} // it is for whoever serves the waypoint to say
		case waypoint.at != nil && !x.shuts(nameOf(k)):
			return ours(true, "waypoint %s judges what goes to Service %s/%s by it, also from other networks", at, k.Namespace, k.Name)
		case waypoint.at == nil && !exported(nameOf(k)):
			return nobody("Service %s/%s is neither behind a waypoint nor shared with other clusters, so nobody is there to judge", k.Namespace, k.Name)
		case waypoint.at == nil && !x.servesOutside():
			return nobody("Service %s/%s is not behind a waypoint, and there is no east-west gateway to judge what comes from other networks", k.Namespace, k.Name)
		case x.overburdened(nameOf(k)):
			// How many there are is left out: it would change what is said on all of them with each one that comes.
			return enforcement{reason: ReasonTooMany, message: fmt.Sprintf("more than %d policies, or more than %d values or %d KiB in them, target Service %s/%s: gateways take no more, and let nobody in to it",
				maxGuards, maxGuardValues, maxGuardBytes>>10, k.Namespace, k.Name)}
		case x.shuts(nameOf(k)):
			return enforcement{reason: ReasonTooMany, message: fmt.Sprintf("the policies that target Services are more than %d MiB in all namespaces, and those of namespace %s more than its share: gateways take no more, and let nobody in to Service %s/%s",
				maxGuardLoad>>20, k.Namespace, k.Namespace, k.Name)}
		default:
			return ours(false, "east-west gateways judge streams from other networks to Service %s/%s by it; nobody judges connections from this network, which needs a waypoint", k.Namespace, k.Name)
		}
	default:
		return nobody("a %s is nothing that anybody here decides for", cmp.Or(t.Kind, "target without a kind"))
	}
	return enforcement{} // it is for whoever serves the waypoint to say
}

// seesRequests says whether a Gateway of ours looks into what comes: a waypoint, or one with a listener for HTTP. Other listeners that it has see no requests.
func seesRequests(g *world.Gateway) bool {
	return g.Class == ClassWaypoint || slices.ContainsFunc(g.Listeners, func(l world.Listener) bool { return l.Protocol == "HTTP" || l.Protocol == "HTTPS" })
}

// ourClass says whether gateways of a class of our cluster are ours.
func (x *index) ourClass(name string) bool {
	c := x.state.GatewayClasses[world.Key{Cluster: x.config.LocalCluster, Name: name}]
	return c != nil && c.Controller == ControllerName
}

// servesOutside says whether a Gateway is served that leads to shared Services from outside, and so judges by their policies: any that is no waypoint.
func (x *index) servesOutside() bool {
	for _, class := range x.serving {
		if class != ClassWaypoint {
			return true
		}
	}
	return false
}

func (x *index) servesClass(name string) bool {
	for _, class := range x.serving {
		if class == name {
			return true
		}
	}
	return false
}

// targeting notes the policies of a namespace that are about something in it.
func (t *touched) targeting(x *index, namespace string) {
	for k := range x.policiesIn[namespace] {
		if x.state.AuthorizationPolicies[k].HasTargets {
			t.policies.add(k)
		}
	}
}

func (t *touched) allTargeting(x *index) {
	for namespace := range x.policiesIn {
		t.targeting(x, namespace)
	}
}
