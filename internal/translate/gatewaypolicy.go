// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// told completes what one of our gateways is told.
func (x *index) told(config *mesh.Gateway, exports []mesh.ServiceKey, guards []mesh.ServicePolicies) *mesh.Gateway {
	out := *config
	g := x.state.Gateways[world.Key{Cluster: x.config.LocalCluster, Namespace: config.Namespace, Name: config.Name}]
	out.Policies = x.gatewayPolicies(g)
	if g.Class == ClassWaypoint {
		x.toldWaypoint(&out, g)
	} else {
		out.ServicePolicies = guards
		if x.isWayIn(g) {
			out.Exports = exports
		}
	}
	return &out
}

// gatewayPolicies are those by which one of our Gateways judges every stream, or what stands for those that are too many; sorted.
func (x *index) gatewayPolicies(g *world.Gateway) []*mesh.Policy {
	within, beyond := x.gatePolicies(g)
	var out []*mesh.Policy
	for _, p := range within {
		if c := x.compile(p); c.policy != nil {
			out = append(out, c.policy)
		}
	}
	for namespace := range x.policyNamespaces(g) {
		out = append(out, standIns(slices.DeleteFunc(slices.Clone(beyond), func(p *world.AuthorizationPolicy) bool { return p.Namespace != namespace }))...)
	}
	slices.SortFunc(out, func(a, b *mesh.Policy) int { return strings.Compare(a.Key(), b.Key()) })
	return out
}

// policyNamespaces are those whose policies may be about all that comes to a Gateway.
func (x *index) policyNamespaces(g *world.Gateway) set[string] {
	out := set[string]{}
	out.add(g.Namespace)
	out.add(x.config.SystemNamespace)
	return out
}

// gatePolicies are the policies about all that comes to one of our Gateways: they target it or its class, or they apply to its pods as
// to any other workload: by selector, by namespace, or as policies of the whole mesh. Of each namespace's those that are beyond the bound are apart.
func (x *index) gatePolicies(g *world.Gateway) (within, beyond []*world.AuthorizationPolicy) {
	var pod map[string]string
	fits := func(p *world.AuthorizationPolicy) bool {
		if p.HasTargets {
			return slices.ContainsFunc(p.Targets, func(t world.PolicyTarget) bool {
				return t.Group == gatewayv1.GroupName &&
					(t.Kind == targetGateway && t.Name == g.Name && p.Namespace == g.Namespace ||
						t.Kind == targetClass && t.Name == g.Class && p.Namespace == x.config.SystemNamespace)
			})
		}
		if len(p.Selector) > 0 && pod == nil {
			network, _ := x.network(x.config.LocalCluster)
			pod = GatewayPodLabels(g.Name, g.Class, cmp.Or(g.Network, network), g.InfraLabels)
		}
		return len(p.Selector) == 0 || selects(p.Selector, pod)
	}
	for namespace := range x.policyNamespaces(g) {
		var of []*world.AuthorizationPolicy
		for k := range x.policiesIn[namespace] {
			if p := x.state.AuthorizationPolicies[k]; fits(p) {
				of = append(of, p)
			}
		}
		if x.heavy(namespace) {
			var more []*world.AuthorizationPolicy
			of, more = x.bounded(of)
			beyond = append(beyond, more...)
		}
		within = append(within, of...)
	}
	return within, beyond
}

// exportPolicies are those by which all of our east-west gateways judge streams to single services: not to those that they lead to by way of another controller's
// waypoint, which judges for itself and by what we do not see. One of ours says the same as they do, so a waypoint that comes or goes opens nothing.
func (x *index) exportPolicies(exported func(serviceName) bool) []mesh.ServicePolicies {
	return x.servicePolicies(maps.Keys(x.guardsOf), func(n serviceName, s *world.Service) bool {
		if !exported(n) {
			return false
		}
		waypoint, _ := x.serviceWaypoint(s)
		return waypoint.at == nil || x.serves(waypoint.gateway)
	})
}

// serves says whether a Gateway of our own cluster is one of ours, and serves.
func (x *index) serves(gateway world.Key) bool {
	_, serves := x.serving[mesh.GatewayKey{Namespace: gateway.Namespace, Name: gateway.Name}]
	return serves
}

// servicePolicies are those that target those of some names, each given once, that are Services of our own cluster and fit.
func (x *index) servicePolicies(names iter.Seq[serviceName], fits func(serviceName, *world.Service) bool) []mesh.ServicePolicies {
	var out []mesh.ServicePolicies
	for n := range names {
		keys := x.guardsOf[n]
		if len(keys) == 0 {
			continue
		}
		s := x.state.Services[n.in(x.config.LocalCluster)]
		if s == nil || !fits(n, s) {
			continue
		}
		policies := []*mesh.Policy{closed(n)}
		if !x.shuts(n) {
			policies = x.compiledOf(keys)
		}
		if len(policies) > 0 {
			out = append(out, mesh.ServicePolicies{Service: x.serviceKey(n), Policies: policies})
		}
	}
	slices.SortFunc(out, func(a, b mesh.ServicePolicies) int { return mesh.CompareServiceKeys(a.Service, b.Service) })
	return out
}

// compiledOf gives those of some policies that can be decided, sorted.
func (x *index) compiledOf(keys set[world.Key]) []*mesh.Policy {
	var out []*mesh.Policy
	for k := range keys {
		if c := x.compile(x.state.AuthorizationPolicies[k]); c.policy != nil {
			out = append(out, c.policy)
		}
	}
	slices.SortFunc(out, func(a, b *mesh.Policy) int { return strings.Compare(a.Key(), b.Key()) })
	return out
}

const (
	labelGatewayClass = gatewayv1.GroupName + "/gateway-class-name" // GEP-1762
	// reservedPrefix begins labels that a Gateway's infrastructure may not set.
	reservedPrefix = gatewayv1.GroupName + "/"
)

// ClassLabel is how a label names a class, whose name may be longer than a label's value: then it is its beginning and a hash, as ResourceName has it.
func ClassLabel(class string) string {
	if len(class) <= maxResourceName {
		return class
	}
	return ResourceName(class)
}

// GatewayPodLabels are the labels of a Gateway's pods: those that the Gateway asks for, and over them ours. They are known before there is
// any pod, so no pod ever serves without the policies that select it.
func GatewayPodLabels(name, class, network string, infrastructure map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range infrastructure {
		if !strings.HasPrefix(k, reservedPrefix) {
			out[k] = v
		}
	}
	out[LabelGatewayName] = ResourceName(name)
	out[labelGatewayClass] = ClassLabel(class)
	out[LabelManagedBy] = ManagedBy
	out[world.LabelDataplaneMode] = "none"
	if network != "" {
		out[world.LabelNetwork] = network
	}
	return out
}
