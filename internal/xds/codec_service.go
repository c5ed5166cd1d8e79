// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"
)

func serviceToProto(s *mesh.Service) *workloadpb.Service {
	out := &workloadpb.Service{
		Name:            s.Name,
		Namespace:       s.Namespace,
		Hostname:        s.Hostname,
		Ports:           portsToProto(s.Ports),
		SubjectAltNames: s.SANs,
		Waypoint:        gatewayAddressToProto(s.Waypoint),
		IpFamilies:      workloadpb.IPFamilies(s.Families),
		Canonical:       s.Canonical,
		Extensions:      addExtension(nil, extensionExported, s.Exported),
	}
	for _, a := range s.Addresses {
		out.Addresses = append(out.Addresses, networkAddressToProto(a))
	}
	for _, r := range s.Ranges {
		length := uint32(max(r.Prefix.Bits(), 0))
		out.Addresses = append(out.Addresses, &workloadpb.NetworkAddress{Network: r.Network, Address: r.Prefix.Addr().AsSlice(), Length: &length})
	}
	if s.Balance.Mode != mesh.BalanceSpread || s.Balance.AllowUnhealthy || len(s.Balance.Preference) > 0 {
		out.LoadBalancing = &workloadpb.LoadBalancing{Mode: workloadpb.LoadBalancing_Mode(s.Balance.Mode)}
		for _, scope := range s.Balance.Preference {
			out.LoadBalancing.RoutingPreference = append(out.LoadBalancing.RoutingPreference, workloadpb.LoadBalancing_Scope(scope))
		}
		if s.Balance.AllowUnhealthy {
			out.LoadBalancing.HealthPolicy = workloadpb.LoadBalancing_ALLOW_ALL
		}
	}
	for i := range s.Waypoints {
		out.WeightedWaypoints = append(out.WeightedWaypoints, &workloadpb.WeightedWaypoint{
			Destination: gatewayAddressToProto(&s.Waypoints[i].At), Weight: s.Waypoints[i].Weight,
		})
	}
	for i := range s.Consumers {
		out.ConsumerWaypoints = append(out.ConsumerWaypoints, &workloadpb.ConsumerWaypoint{
			Namespace: s.Consumers[i].Namespace, Destination: gatewayAddressToProto(&s.Consumers[i].At),
		})
	}
	if s.NamespaceOnly {
		out.Visibility = workloadpb.Service_NAMESPACE
	}
	return out
}

func serviceFromProto(s *workloadpb.Service) (*mesh.Service, error) {
	var r reader
	key := r.serviceKey("service", s.GetNamespace(), s.GetHostname())
	out := &mesh.Service{
		Namespace: key.Namespace,
		Hostname:  key.Hostname,
		Name:      r.text("name", s.GetName(), maxName),
		Ports:     portsFromProto(&r, s.GetPorts()),
		Waypoint:  gatewayAddressFromProto(&r, "waypoint", s.GetWaypoint()),
		Balance:   balanceFromProto(&r, s.GetLoadBalancing()),
		Canonical: s.GetCanonical(),
		Exported:  hasExtension(&r, extensionExported, s.GetExtensions()),
	}
	if _, _, ok := splitName(key.String()); !ok {
		r.fail("service %q has a slash in its namespace or hostname", key)
	}
	switch f := s.GetIpFamilies(); {
	case f >= 0 && f <= workloadpb.IPFamilies_DUAL:
		out.Families = mesh.Families(f)
	default:
		r.fail("ip_families %d is not known", f)
	}
	switch v := s.GetVisibility(); v {
	case workloadpb.Service_PUBLIC, workloadpb.Service_NAMESPACE:
		out.NamespaceOnly = v == workloadpb.Service_NAMESPACE
	default:
		r.fail("visibility %d is not known", v)
	}
	if n := len(s.GetAddresses()); n > 0 && r.count("addresses", n, maxMembers) {
		for _, a := range s.GetAddresses() {
			if isRange(a) {
				out.Ranges = append(out.Ranges, networkRangeFromProto(&r, "address", a))
			} else {
				out.Addresses = append(out.Addresses, networkAddressFromProto(&r, "address", a))
			}
		}
	}
	if n := len(s.GetWeightedWaypoints()); n > 0 && r.count("weighted_waypoints", n, maxAddresses) {
		for _, w := range s.GetWeightedWaypoints() {
			if at := gatewayAddressFromProto(&r, "weighted_waypoint", w.GetDestination()); at != nil {
				out.Waypoints = append(out.Waypoints, mesh.WeightedWaypoint{At: *at, Weight: w.GetWeight()})
			} else {
				r.fail("weighted_waypoint has no destination")
			}
		}
	}
	out.Consumers = consumersFromProto(&r, s.GetConsumerWaypoints())
	if n := len(s.GetSubjectAltNames()); n > 0 && r.count("subject_alt_names", n, maxMembers) {
		for _, san := range s.GetSubjectAltNames() {
			out.SANs = append(out.SANs, r.must("subject_alt_name", san, maxIdentity))
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

// consumersFromProto reads waypoints of clients' namespaces, which lookups want in order.
func consumersFromProto(r *reader, in []*workloadpb.ConsumerWaypoint) []mesh.ConsumerWaypoint {
	if len(in) == 0 || !r.count("consumer_waypoints", len(in), mesh.MaxConsumers) {
		return nil
	}
	out := make([]mesh.ConsumerWaypoint, 0, len(in))
	for i, c := range in {
		at := gatewayAddressFromProto(r, "consumer_waypoint", c.GetDestination())
		if at == nil {
			r.fail("consumer_waypoint has no destination")
			return nil
		}
		out = append(out, mesh.ConsumerWaypoint{Namespace: r.must("consumer_waypoint namespace", c.GetNamespace(), maxName), At: *at})
		if i > 0 && out[i-1].Namespace >= out[i].Namespace {
			r.fail("consumer_waypoints are not in order")
			return nil
		}
	}
	return out
}

func balanceFromProto(r *reader, b *workloadpb.LoadBalancing) mesh.LoadBalancing {
	var out mesh.LoadBalancing
	if b == nil {
		return out
	}
	switch m := b.GetMode(); {
	case m >= 0 && m <= workloadpb.LoadBalancing_PASSTHROUGH:
		out.Mode = mesh.BalanceMode(m)
	default:
		r.fail("load balancing mode %d is not known", m)
	}
	switch h := b.GetHealthPolicy(); h {
	case workloadpb.LoadBalancing_ONLY_HEALTHY, workloadpb.LoadBalancing_ALLOW_ALL:
		out.AllowUnhealthy = h == workloadpb.LoadBalancing_ALLOW_ALL
	default:
		r.fail("health policy %d is not known", h)
	}
	// More preferences than there are scopes say nothing more.
	if r.count("routing_preference", len(b.GetRoutingPreference()), len(workloadpb.LoadBalancing_Scope_name)) {
		for _, scope := range b.GetRoutingPreference() {
			if scope < workloadpb.LoadBalancing_REGION || scope > workloadpb.LoadBalancing_NETWORK {
				r.fail("routing preference %d is not known", scope)
				break
			}
			out.Preference = append(out.Preference, mesh.Scope(scope))
		}
	}
	return out
}

func portsToProto(ports []mesh.Port) []*workloadpb.Port {
	var out []*workloadpb.Port
	for _, p := range ports {
		out = append(out, &workloadpb.Port{
			ServicePort: uint32(p.Service), TargetPort: uint32(p.Target), AppProtocol: workloadpb.AppProtocol(p.App),
			Name: p.Name,
		})
	}
	return out
}

func portsFromProto(r *reader, ports []*workloadpb.Port) []mesh.Port {
	if len(ports) == 0 || !r.count("ports", len(ports), maxMembers) {
		return nil
	}
	out := make([]mesh.Port, 0, len(ports))
	for _, p := range ports {
		port := mesh.Port{
			Service: r.port("service_port", p.GetServicePort(), false),
			Target:  r.port("target_port", p.GetTargetPort(), true),
			Name:    r.text("port name", p.GetName(), maxName),
		}
		if a := p.GetAppProtocol(); a >= 0 && a <= workloadpb.AppProtocol_TLS {
			port.App = mesh.AppProtocol(a) // one from the future is only a hint: read as unknown
		}
		out = append(out, port)
	}
	return out
}
