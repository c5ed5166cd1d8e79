// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/securitypb"
)

// gatewayToProto gives all of a Gateway but its routes, whose places it notes.
func gatewayToProto(g *mesh.Gateway, routes *routeTable) *gatewaypb.Gateway {
	out := &gatewaypb.Gateway{
		Namespace:      g.Namespace,
		Name:           g.Name,
		Network:        g.Network,
		ServiceAccount: g.ServiceAccount,
		TrustDomains:   g.TrustDomains,
	}
	for _, l := range g.Listeners {
		out.Listeners = append(out.Listeners, routes.listener(l))
	}
	out.ServiceRoutes = routes.ofServices(g.ServiceRoutes)
	out.BackendTls, out.ClientCertificate = backendTLSToProto(g.BackendTLS), certificateToProto(g.ClientCertificate)
	out.Service, out.Fronts = serviceKeyToProto(g.Service), serviceKeysToProto(g.Fronts)
	out.Consumed = serviceKeysToProto(g.Consumed)
	out.Exports = serviceKeysToProto(g.Exports)
	out.Policies = policiesToProto(g.Policies)
	for _, of := range g.ServicePolicies {
		out.ServicePolicies = append(out.ServicePolicies, &gatewaypb.ServicePolicies{
			Service:  serviceKeyToProto(of.Service),
			Policies: policiesToProto(of.Policies),
		})
	}
	return out
}

func policiesToProto(in []*mesh.Policy) []*securitypb.Authorization {
	var out []*securitypb.Authorization
	for _, p := range in {
		out = append(out, policyToProto(p))
	}
	return out
}

// policies reads the policies of a gateway. One that cannot be read, or is one too many, is taken for one that keeps everybody out of what it guards: for without it more would be let in.
func (r *gatewayReader) policies(field string, in []*securitypb.Authorization) []*mesh.Policy {
	if len(in) == 0 {
		return nil
	}
	if len(in) > maxMembers {
		r.part("%s has %d entries, at most %d are accepted", field, len(in), maxMembers)
		return []*mesh.Policy{shut(in[0])}
	}
	out := make([]*mesh.Policy, 0, len(in))
	for _, p := range in {
		policy, err := policyFromProto(p)
		if err != nil {
			policy = shut(p)
			r.part("%s: policy %s: %v", field, clip(policy.Key()), err)
		}
		out = append(out, policy)
	}
	return out
}

// shut stands in for a policy that could not be read: it denies everything.
func shut(p *securitypb.Authorization) *mesh.Policy {
	out := &mesh.Policy{Namespace: p.GetNamespace(), Name: p.GetName(), Action: mesh.Deny, DryRun: p.GetDryRun(), Rules: []mesh.PolicyRule{{}}}
	if _, _, ok := splitName(out.Key()); !ok || max(len(out.Namespace), len(out.Name)) > maxName {
		out.Namespace, out.Name = "unreadable", "unreadable"
	}
	return out
}

// gateway reads a Gateway whose routes were read before. It is worth nothing once the reader has an error.
func (r *gatewayReader) gateway(g *gatewaypb.Gateway, routes []*mesh.HTTPRoute) *mesh.Gateway {
	out := &mesh.Gateway{
		Namespace:      r.must("namespace", g.GetNamespace(), maxName),
		Name:           r.must("name", g.GetName(), maxName),
		Network:        r.text("network", g.GetNetwork(), maxName),
		ServiceAccount: r.text("service_account", g.GetServiceAccount(), maxName),
	}
	out.Listeners = r.listeners(g.GetListeners(), routes)
	out.ServiceRoutes = r.serviceRoutes(g.GetServiceRoutes(), routes)
	out.BackendTLS, out.ClientCertificate = r.backendTLS(g.GetBackendTls()), r.certificate(g.GetClientCertificate())
	out.Exports = r.serviceKeys("export", g.GetExports())
	if out.Fronts = r.serviceKeys("front", g.GetFronts()); !slices.IsSortedFunc(out.Fronts, mesh.CompareServiceKeys) {
		r.fail("fronts are not in order") // lookups want them so
	}
	if out.Consumed = r.serviceKeys("consumed", g.GetConsumed()); !slices.IsSortedFunc(out.Consumed, mesh.CompareServiceKeys) {
		r.fail("consumed are not in order")
	}
	if s := g.GetService(); s != nil {
		out.Service = r.serviceKey("service", s.GetNamespace(), s.GetHostname())
	}
	if n := len(g.GetTrustDomains()); n > 0 && r.count("trust_domains", n, maxMembers) {
		for _, td := range g.GetTrustDomains() {
			out.TrustDomains = append(out.TrustDomains, r.must("trust domain", td, maxName))
		}
	}
	out.Policies = r.policies("policies", g.GetPolicies())
	if n := len(g.GetServicePolicies()); n > 0 && r.count("service_policies", n, maxMembers) {
		for _, of := range g.GetServicePolicies() {
			out.ServicePolicies = append(out.ServicePolicies, mesh.ServicePolicies{
				Service:  r.serviceKey("service_policies", of.GetService().GetNamespace(), of.GetService().GetHostname()),
				Policies: r.policies("service_policies", of.GetPolicies()),
			})
			if r.err != nil {
				break
			}
		}
	}
	return out
}
