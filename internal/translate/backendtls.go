// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Conditions of a policy at one of its ancestors.
const (
	policyAccepted = string(gatewayv1.PolicyConditionAccepted)
	policyResolved = string(gatewayv1.BackendTLSPolicyConditionResolvedRefs)
)

// policyVerdict is what a BackendTLSPolicy means wherever it is in force.
type policyVerdict struct {
	settings mesh.BackendTLS // of no port yet
	reason   string          // of Accepted=False; empty: accepted
	message  string
	refs     trouble
	unread   bool // something that it refers to was not read yet
	awaited  bool // and what was in force counts
}

// judgePolicies looks at the BackendTLSPolicies of which a Service is referred to by a route: no others are in force anywhere.
func (x *index) judgePolicies(wanted set[world.ObjectRef]) map[world.Key]*policyVerdict {
	out := map[world.Key]*policyVerdict{}
	for _, k := range slices.SortedFunc(maps.Keys(x.state.BackendTLSPolicies), world.Key.Compare) {
		p := x.state.BackendTLSPolicies[k]
		routed := func(t world.NamedPort) bool {
			service := k.In(k.Namespace, t.Service)
			return len(x.routesTo[service])+len(x.streams.to[service]) > 0
		}
		if k.Cluster == x.config.LocalCluster && slices.ContainsFunc(p.Targets, routed) {
			out[k] = x.judgePolicy(p, wanted)
		}
	}
	return out
}

func (x *index) judgePolicy(p *world.BackendTLSPolicy, wanted set[world.ObjectRef]) *policyVerdict {
	v := &policyVerdict{settings: mesh.BackendTLS{ServerName: p.Hostname}}
	for _, n := range p.SANs {
		v.settings.SANs = append(v.settings.SANs, mesh.SubjectAltName{URI: n.URI, Value: n.Value})
	}
	v.settings.CAs, v.refs, v.unread = x.anchors(p.Ref(), "validation.caCertificateRefs", p.CAs, wanted,
		string(gatewayv1.BackendTLSPolicyReasonInvalidCACertificateRef), string(gatewayv1.BackendTLSPolicyReasonInvalidKind), false)
	v.awaited = x.awaits(p, v.unread) && v.unread
	system := p.WellKnown == string(gatewayv1.WellKnownCACertificatesSystem)
	invalid := string(gatewayv1.PolicyReasonInvalid)
	switch {
	case p.Option != "":
		v.reason, v.message = invalid, fmt.Sprintf("options: %q is not known, and none is", p.Option)
	case p.Hostname == "":
		v.reason, v.message = invalid, "validation.hostname is empty"
	case len(p.CAs) > 0 && v.settings.CAs == "":
		v.reason, v.message = string(gatewayv1.BackendTLSPolicyReasonNoValidCACertificate), "no CA certificate to know backends by: "+v.refs.message
	case len(p.CAs) == 0 && !system && p.WellKnown != "":
		v.reason, v.message = invalid, fmt.Sprintf("validation.wellKnownCACertificates: %q is not known, only System is", p.WellKnown)
	case len(p.CAs) == 0 && !system:
		v.reason, v.message = invalid, "validation: neither caCertificateRefs nor wellKnownCACertificates says by whom backends are known"
	}
	v.settings.System = system && len(p.CAs) == 0
	if v.reason != "" {
		v.settings = mesh.BackendTLS{Problem: shorten(fmt.Sprintf("BackendTLSPolicy %s/%s: %s", p.Namespace, p.Name, v.message))}
	}
	return v
}

// target is a Service, or one port of it by its name.
type target struct {
	service world.Key
	port    string
}

// targetPort is a port of a Service that a policy may be for.
type targetPort struct {
	name string
	port uint16
}

// targetPorts are those of a Service of our own cluster, or else of what other clusters share under its name, to which routes lead as well; false if there is neither.
func (x *index) targetPorts(service world.Key) (out []targetPort, there bool) {
	if s := x.state.Services[service]; s != nil {
		for _, p := range s.Ports {
			out = append(out, targetPort{p.Name, p.Port})
		}
		return out, true
	}
	a := x.answerOf(nameOf(service))
	if a == nil || a.service == nil {
		return nil, false
	}
	for _, p := range a.service.Ports {
		out = append(out, targetPort{p.Name, p.Service})
	}
	return out, true
}

// settlePolicies finds which Gateways the policies are in force at, tells these, and says of each policy what became of it there.
func (x *index) settlePolicies(verdicts map[world.Key]*policyVerdict, findings map[world.ObjectRef][]Finding) {
	if len(verdicts) == 0 {
		return
	}
	// Of several for one target the oldest counts, or else the first by name.
	policies := make([]*world.BackendTLSPolicy, 0, len(verdicts))
	for k := range verdicts {
		policies = append(policies, x.state.BackendTLSPolicies[k])
	}
	slices.SortFunc(policies, func(a, b *world.BackendTLSPolicy) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), a.Key.Compare(b.Key))
	})
	holders, targeted := map[target]*world.BackendTLSPolicy{}, set[serviceName]{}
	for _, p := range policies {
		for _, named := range p.Targets {
			t := target{p.In(p.Namespace, named.Service), named.Port}
			if holders[t] == nil {
				holders[t] = p
			}
			targeted.add(nameOf(t.service))
		}
	}
	reached := x.reaching(targeted)
	told := map[*gate][]tlsInForce{}
	for n, gs := range reached {
		service := n.in(x.config.LocalCluster)
		ports, _ := x.targetPorts(service)
		for _, port := range ports {
			p := holders[target{service, port.name}]
			if p == nil {
				p = holders[target{service, ""}]
			}
			if p == nil {
				continue
			}
			v := verdicts[p.Key]
			settings := v.settings
			settings.Service, settings.Port = x.serviceKey(nameOf(service)), port.port
			for g := range gs {
				if v.unread {
					waits := fmt.Sprintf("BackendTLSPolicy %s/%s: what it refers to was not read yet", p.Namespace, p.Name)
					if !v.awaited {
						told[g] = append(told[g], tlsInForce{mesh.BackendTLS{Service: settings.Service, Port: settings.Port, Problem: waits}, p})
						continue
					}
					if was, some := x.unreadAt(g, settings.Service, settings.Port, waits); some {
						told[g] = append(told[g], tlsInForce{was, p})
					}
					continue
				}
				told[g] = append(told[g], tlsInForce{settings, p})
			}
		}
	}
	crowded := map[*gate]set[world.Key]{}
	for g, all := range told {
		slices.SortFunc(all, func(a, b tlsInForce) int { return mesh.CompareBackendTLS(a.BackendTLS, b.BackendTLS) })
		crowded[g] = boundCAs(all, x.maxCAs)
		for _, of := range all {
			g.backendTLS = append(g.backendTLS, of.BackendTLS)
		}
	}
	for _, p := range policies {
		if verdicts[p.Key].unread {
			if said := x.memory.said.findings[p.Ref()]; len(said) > 0 {
				findings[p.Ref()] = said
			}
			continue
		}
		ancestors := set[*gate]{}
		for _, named := range p.Targets {
			maps.Copy(ancestors, reached[serviceName{p.Namespace, named.Service}])
		}
		var out []Finding
		for _, g := range slices.SortedFunc(maps.Keys(ancestors), func(a, b *gate) int { return a.gateway.Key.Compare(b.gateway.Key) }) {
			out = append(out, x.atAncestor(p, verdicts[p.Key], g, holders, reached, crowded[g].has(p.Key))...)
		}
		if len(out) > 0 {
			findings[p.Ref()] = out
		}
	}
}

// atAncestor says what became of a policy at a Gateway that reaches some of what it is for. crowded says that it is told of no CAs of the policy at some port, as there are too many.
func (x *index) atAncestor(p *world.BackendTLSPolicy, v *policyVerdict, g *gate, holders map[target]*world.BackendTLSPolicy, reached map[serviceName]set[*gate], crowded bool) []Finding {
	var lost, missing []string
	won := false
	for _, named := range p.Targets {
		t := target{p.In(p.Namespace, named.Service), named.Port}
		if !reached[nameOf(t.service)].has(g) {
			continue
		}
		ports, there := x.targetPorts(t.service)
		switch holder := holders[t]; {
		case holder != p:
			lost = append(lost, fmt.Sprintf("BackendTLSPolicy %s, which is older or comes first by name, is for %s", holder.Name, t))
		case !there:
			missing = append(missing, fmt.Sprintf("there is no Service %s/%s", t.service.Namespace, t.service.Name))
		case t.port != "" && !slices.ContainsFunc(ports, func(p targetPort) bool { return p.name == t.port }):
			missing = append(missing, fmt.Sprintf("Service %s/%s has no port named %s", t.service.Namespace, t.service.Name, t.port))
		default:
			won = true
		}
	}
	reason, message := v.reason, v.message
	switch {
	case reason != "":
		message += ": connections to the backends are refused"
	case !won && len(lost) > 0:
		reason, message = string(gatewayv1.PolicyReasonConflicted), strings.Join(append(lost, missing...), "; ")
	case !won:
		reason, message = string(gatewayv1.PolicyReasonTargetNotFound), strings.Join(missing, "; ")
	case crowded:
		reason, message = ReasonTooMany, tooManyCAs(p.Namespace)+": connections to backends of some ports are refused"
	default:
		message = strings.Join(append([]string{"backends are spoken to in TLS"}, append(lost, missing...)...), "; ")
	}
	finding := findingAt(world.RouteParent{Group: gatewayv1.GroupName, Kind: string(world.KindGateway), Namespace: g.gateway.Namespace, Name: g.gateway.Name}, p.Generation)
	out := []Finding{finding(policyAccepted, reason == "", cmp.Or(reason, string(gatewayv1.PolicyReasonAccepted)), message)}
	if v.refs.reason == "" {
		return append(out, finding(policyResolved, true, string(gatewayv1.BackendTLSPolicyReasonResolvedRefs), "the policy refers to nothing that is missing"))
	}
	return append(out, finding(policyResolved, false, v.refs.reason, v.refs.message))
}

// String names a target for a message.
func (t target) String() string {
	if t.port == "" {
		return fmt.Sprintf("Service %s/%s", t.service.Namespace, t.service.Name)
	}
	return fmt.Sprintf("port %s of Service %s/%s", t.port, t.service.Namespace, t.service.Name)
}
