// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"
)

// What an unset field means on the wire, for both sides (ztunnel, src/state/workload.rs).
const (
	defaultTrustDomain    = "cluster.local"
	defaultServiceAccount = "default"
	defaultCluster        = "Kubernetes"
	defaultCapacity       = 1
)

func workloadToProto(w *mesh.Workload) *workloadpb.Workload {
	out := &workloadpb.Workload{
		Uid:                   w.UID,
		Name:                  w.Name,
		Namespace:             w.Namespace,
		Hostname:              w.Hostname,
		Network:               w.Network,
		ClusterId:             w.Cluster,
		TunnelProtocol:        workloadpb.TunnelProtocol(w.Tunnel),
		TrustDomain:           w.TrustDomain,
		ServiceAccount:        w.ServiceAccount,
		Node:                  w.Node,
		Capacity:              wrapperspb.UInt32(w.Capacity),
		NetworkGateway:        gatewayAddressToProto(w.NetworkGateway),
		Waypoint:              gatewayAddressToProto(w.Waypoint),
		AuthorizationPolicies: w.Policies,
		CanonicalName:         w.CanonicalName,
		CanonicalRevision:     w.CanonicalRevision,
		WorkloadName:          w.WorkloadName,
		WorkloadType:          workloadpb.WorkloadType(w.Kind),
		Extensions:            addExtension(addExtension(nil, extensionGateway, w.Gateway), extensionConfines, w.Confines),
	}
	for _, a := range w.Addresses {
		out.Addresses = append(out.Addresses, a.Unmap().AsSlice())
	}
	if w.HostNetwork {
		out.NetworkMode = workloadpb.NetworkMode_HOST_NETWORK
	}
	if w.Unhealthy {
		out.Status = workloadpb.WorkloadStatus_UNHEALTHY
	}
	if w.Locality != (mesh.Locality{}) {
		out.Locality = &workloadpb.Locality{Region: w.Locality.Region, Zone: w.Locality.Zone, Subzone: w.Locality.Subzone}
	}
	if t := w.AppTunnel; t != nil {
		out.ApplicationTunnel = &workloadpb.ApplicationTunnel{Port: uint32(t.Port)}
		if t.Proxy {
			out.ApplicationTunnel.Protocol = workloadpb.ApplicationTunnel_PROXY
		}
	}
	if len(w.Services) > 0 {
		out.Services = make(map[string]*workloadpb.PortList, len(w.Services))
		for key, ports := range w.Services {
			out.Services[key.String()] = &workloadpb.PortList{Ports: portsToProto(ports)}
		}
	}
	return out
}

func workloadFromProto(w *workloadpb.Workload) (*mesh.Workload, error) {
	var r reader
	out := &mesh.Workload{
		UID:               r.must("uid", w.GetUid(), maxUID),
		Name:              r.text("name", w.GetName(), maxUID), // of a split-horizon workload: its uid
		Namespace:         r.text("namespace", w.GetNamespace(), maxName),
		Hostname:          r.text("hostname", w.GetHostname(), maxName),
		Network:           r.text("network", w.GetNetwork(), maxName),
		Cluster:           r.or("cluster_id", w.GetClusterId(), defaultCluster, maxName),
		TrustDomain:       r.or("trust_domain", w.GetTrustDomain(), defaultTrustDomain, maxName),
		ServiceAccount:    r.or("service_account", w.GetServiceAccount(), defaultServiceAccount, maxName),
		Node:              r.text("node", w.GetNode(), maxName),
		Capacity:          defaultCapacity,
		NetworkGateway:    gatewayAddressFromProto(&r, "network_gateway", w.GetNetworkGateway()),
		Waypoint:          gatewayAddressFromProto(&r, "waypoint", w.GetWaypoint()),
		CanonicalName:     r.text("canonical_name", w.GetCanonicalName(), maxLabelValue),
		CanonicalRevision: r.text("canonical_revision", w.GetCanonicalRevision(), maxLabelValue),
		WorkloadName:      r.text("workload_name", w.GetWorkloadName(), maxLabelValue),
		Gateway:           hasExtension(&r, extensionGateway, w.GetExtensions()),
		Confines:          hasExtension(&r, extensionConfines, w.GetExtensions()),
	}
	switch t := w.GetTunnelProtocol(); t {
	case workloadpb.TunnelProtocol_NONE, workloadpb.TunnelProtocol_HBONE:
		out.Tunnel = mesh.Tunnel(t)
	default:
		r.fail("tunnel_protocol %s is not supported", t)
	}
	switch s := w.GetStatus(); s {
	case workloadpb.WorkloadStatus_HEALTHY, workloadpb.WorkloadStatus_UNHEALTHY:
		out.Unhealthy = s == workloadpb.WorkloadStatus_UNHEALTHY
	default:
		r.fail("status %d is not known", s)
	}
	switch m := w.GetNetworkMode(); m {
	case workloadpb.NetworkMode_STANDARD, workloadpb.NetworkMode_HOST_NETWORK:
		out.HostNetwork = m == workloadpb.NetworkMode_HOST_NETWORK
	default:
		r.fail("network_mode %d is not known", m)
	}
	if t := w.GetWorkloadType(); t >= 0 && t <= workloadpb.WorkloadType_JOB {
		out.Kind = mesh.WorkloadKind(t) // a kind from the future is only telemetry: read as a deployment
	}
	if c := w.GetCapacity(); c != nil {
		out.Capacity = c.GetValue()
	}
	if l := w.GetLocality(); l != nil {
		out.Locality = mesh.Locality{
			Region:  r.text("region", l.GetRegion(), maxName),
			Zone:    r.text("zone", l.GetZone(), maxName),
			Subzone: r.text("subzone", l.GetSubzone(), maxName),
		}
	}
	if t := w.GetApplicationTunnel(); t != nil {
		out.AppTunnel = &mesh.AppTunnel{Port: r.port("application_tunnel port", t.GetPort(), true)}
		switch p := t.GetProtocol(); p {
		case workloadpb.ApplicationTunnel_NONE, workloadpb.ApplicationTunnel_PROXY:
			out.AppTunnel.Proxy = p == workloadpb.ApplicationTunnel_PROXY
		default:
			r.fail("application_tunnel protocol %d is not known", p)
		}
	}
	if n := len(w.GetAddresses()); n > 0 && r.count("addresses", n, maxAddresses) {
		for _, b := range w.GetAddresses() {
			out.Addresses = append(out.Addresses, r.addr("address", b))
		}
	}
	if n := len(w.GetServices()); n > 0 && r.count("services", n, maxServices) {
		out.Services = make(map[mesh.ServiceKey][]mesh.Port, n)
		for name, list := range w.GetServices() {
			namespace, hostname, ok := splitName(name)
			if !ok {
				r.fail("service %q is not of the form namespace/hostname", name)
				break
			}
			out.Services[r.serviceKey("service", namespace, hostname)] = portsFromProto(&r, list.GetPorts())
		}
	}
	if n := len(w.GetAuthorizationPolicies()); n > 0 && r.count("authorization_policies", n, maxPolicies) {
		for _, p := range w.GetAuthorizationPolicies() {
			out.Policies = append(out.Policies, r.must("authorization policy", p, 2*maxName+1))
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

func gatewayAddressToProto(g *mesh.GatewayAddress) *workloadpb.GatewayAddress {
	if g == nil {
		return nil
	}
	out := &workloadpb.GatewayAddress{HboneMtlsPort: uint32(g.Port)}
	if g.Addr.Addr.IsValid() {
		out.Destination = &workloadpb.GatewayAddress_Address{Address: networkAddressToProto(g.Addr)}
	} else {
		out.Destination = &workloadpb.GatewayAddress_Hostname{Hostname: &workloadpb.NamespacedHostname{
			Namespace: g.Hostname.Namespace, Hostname: g.Hostname.Hostname,
		}}
	}
	return out
}

func gatewayAddressFromProto(r *reader, field string, g *workloadpb.GatewayAddress) *mesh.GatewayAddress {
	if g == nil {
		return nil
	}
	out := &mesh.GatewayAddress{Port: r.port(field+" port", g.GetHboneMtlsPort(), true)}
	if out.Port == 0 {
		out.Port = mesh.HBONEPort // nobody can listen on 0: the sender left it out
	}
	switch d := g.GetDestination().(type) {
	case *workloadpb.GatewayAddress_Address:
		out.Addr = networkAddressFromProto(r, field, d.Address)
	case *workloadpb.GatewayAddress_Hostname:
		out.Hostname = r.serviceKey(field, d.Hostname.GetNamespace(), d.Hostname.GetHostname())
	default:
		r.fail("%s has neither address nor hostname", field)
	}
	return out
}

func networkAddressToProto(a mesh.NetworkAddress) *workloadpb.NetworkAddress {
	return &workloadpb.NetworkAddress{Network: a.Network, Address: a.Addr.Unmap().AsSlice()}
}

func networkAddressFromProto(r *reader, field string, a *workloadpb.NetworkAddress) mesh.NetworkAddress {
	out := mesh.NetworkAddress{
		Network: r.text(field+" network", a.GetNetwork(), maxName),
		Addr:    r.addr(field+" address", a.GetAddress()),
	}
	if isRange(a) {
		r.fail("%s is a range of addresses (/%d), and must be a single one", field, a.GetLength())
	}
	return out
}

// isRange says whether it is more than one address.
func isRange(a *workloadpb.NetworkAddress) bool {
	return a != nil && a.Length != nil && int(a.GetLength()) != 8*len(a.GetAddress())
}

func networkRangeFromProto(r *reader, field string, a *workloadpb.NetworkAddress) mesh.NetworkRange {
	return mesh.NetworkRange{Network: r.text(field+" network", a.GetNetwork(), maxName), Prefix: r.prefix(field, a.GetAddress(), a.GetLength()).Masked()}
}
