// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// takesPart says whether a cluster's definition of a service is part of what is told of it.
type takesPart func(world.Cluster, serviceName) bool

// podWorkload is a pod on a network of ours; nil: not told.
func (x *index) podWorkload(k world.Key, takesPart takesPart) *mesh.Workload {
	p := x.state.Pods[k]
	if p == nil || len(p.Addresses) == 0 {
		return nil
	}
	network, ok := x.networkOfPod(p)
	if !ok || !x.near(network) {
		return nil
	}
	if k.Cluster != x.config.LocalCluster &&
		(!x.withinLimits(k, p) || !x.withinCIDRs(p) || x.stolen(k.Cluster, p, network)) {
		return nil
	}
	out := &mesh.Workload{
		UID:  string(k.Cluster) + "//Pod/" + k.Namespace + "/" + k.Name,
		Name: k.Name, Namespace: k.Namespace, Addresses: p.Addresses,
		Network: network, Cluster: string(k.Cluster), TrustDomain: x.trustDomain(k.Cluster), ServiceAccount: p.ServiceAccount,
		Node: p.Node, HostNetwork: p.HostNetwork, Unhealthy: !healthy(p), Capacity: 1,
		Locality: x.locality(k.In("", p.Node)),
		CanonicalName: cmp.Or(p.Labels["service.istio.io/canonical-name"], p.Labels["app.kubernetes.io/name"],
			p.Labels["app"], p.WorkloadName),
		CanonicalRevision: cmp.Or(p.Labels["service.istio.io/canonical-revision"], p.Labels["app.kubernetes.io/version"],
			p.Labels["version"], "latest"),
		WorkloadName: p.WorkloadName, Kind: p.WorkloadKind, Gateway: p.Labels[LabelGatewayName] != "",
	}
	if p.Captured && !p.HostNetwork {
		out.Tunnel, out.Confines = mesh.TunnelHBONE, p.Labels[world.LabelTunnel] == "" && x.confines(k.In("", p.Node))
	}
	if k.Cluster == x.config.LocalCluster || out.Tunnel == mesh.TunnelHBONE {
		out.Services = x.servicesOf(k, takesPart)
	} // Nothing that is meant for a service goes to another cluster in plaintext, to wherever that says its pod is: such pods do not count there either, see memberOf.
	if k.Cluster == x.config.LocalCluster {
		out.Policies, out.Waypoint, out.AppTunnel = x.policiesOf(p), x.podWaypoint(p), x.appTunnel(p)
	}
	return out
}

func isNodeProxy(p *world.Pod) bool { return p != nil && p.NodeProxy != world.NoNodeProxy }

// confines says whether all proxies that may take a connection to a pod of the node understand what a gateway confines it to. During an upgrade there are two.
func (x *index) confines(node world.Key) bool {
	for proxy := range x.proxiesOn[node] {
		if x.state.Pods[proxy].NodeProxy != world.NodeProxyConfines {
			return false
		}
	}
	return len(x.proxiesOn[node]) > 0
}

func (x *index) locality(node world.Key) mesh.Locality {
	if n := x.state.Nodes[node]; n != nil {
		return n.Locality
	}
	return mesh.Locality{}
}

// servicesOf are the services that a pod is behind, with its own port for each of theirs.
func (x *index) servicesOf(pod world.Key, takesPart takesPart) map[mesh.ServiceKey][]mesh.Port {
	var out map[mesh.ServiceKey][]mesh.Port
	for _, k := range slices.SortedFunc(x.slicesNaming.of(pod), world.Key.Compare) {
		if key, ports, ok := x.slicePorts(k, takesPart); ok {
			if out == nil {
				out = map[mesh.ServiceKey][]mesh.Port{}
			}
			out[key] = addPorts(out[key], ports)
		}
	}
	return out
}

// slicePorts are the ports at which the endpoints of a slice answer for its service.
func (x *index) slicePorts(k world.Key, takesPart takesPart) (mesh.ServiceKey, []mesh.Port, bool) {
	slice := x.state.EndpointSlices[k]
	n := serviceName{k.Namespace, slice.Service}
	s := x.state.Services[n.in(k.Cluster)]
	if s == nil || !takesPart(k.Cluster, n) {
		return mesh.ServiceKey{}, nil, false
	}
	ports := []mesh.Port{}
	for _, p := range s.Ports {
		i := slices.IndexFunc(slice.Ports, func(e world.EndpointPort) bool { return e.Name == p.Name })
		if i >= 0 { // else the pod lacks the named port
			ports = append(ports, mesh.Port{Service: p.Port, Target: slice.Ports[i].Port, App: p.App})
		}
	}
	return x.serviceKey(n), ports, true
}

// addPorts is the union by service port, sorted; what was there first stays.
func addPorts(ports, more []mesh.Port) []mesh.Port {
	out := slices.Clone(ports)
	for _, p := range more {
		if !slices.ContainsFunc(out, func(q mesh.Port) bool { return q.Service == p.Service }) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b mesh.Port) int { return cmp.Compare(a.Service, b.Service) })
	return out
}

// sliceWorkloads are endpoints of a slice that are no pods, such as the API server's. Only our own cluster may name such
// addresses: from a remote one they would be a way to send our clients anywhere, in plaintext.
func (x *index) sliceWorkloads(k world.Key, takesPart takesPart) map[string]*mesh.Workload {
	slice := x.state.EndpointSlices[k]
	if slice == nil || k.Cluster != x.config.LocalCluster {
		return nil
	}
	key, ports, ok := x.slicePorts(k, takesPart)
	if !ok {
		return nil
	}
	ports = addPorts(nil, ports)
	network, _ := x.network(k.Cluster)
	var out map[string]*mesh.Workload
	for _, ep := range slice.Endpoints {
		if ep.Pod != "" {
			continue
		}
		uid := string(k.Cluster) + "/discovery.k8s.io/EndpointSlice/" + k.Namespace + "/" + k.Name + "/" + ep.Addresses[0].String()
		if out == nil {
			out = map[string]*mesh.Workload{}
		}
		out[uid] = &mesh.Workload{
			UID: uid, Name: k.Name + "/" + ep.Addresses[0].String(), Namespace: k.Namespace,
			Addresses: slices.Clone(ep.Addresses[:1:1]), Network: network, Cluster: string(k.Cluster), TrustDomain: x.config.TrustDomain,
			Node: ep.Node, HostNetwork: true, Unhealthy: !ep.Ready, Capacity: 1,
			Services: map[mesh.ServiceKey][]mesh.Port{key: ports}, Locality: x.locality(k.In("", ep.Node)),
			Kind: mesh.KindPod, WorkloadName: slice.Service,
		}
	}
	return out
}
