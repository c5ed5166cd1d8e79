// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// podWorkload is a pod on a network of ours; nil: not told. One that is not there is nil.
func (x *index) podWorkload(k world.Key, p *world.Pod, served *served) *mesh.Workload {
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
		out.Services = served.ofPod(k)
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

// sliceWorkloads are endpoints of a slice that are no pods, such as the API server's. Only our own cluster may name such
// addresses: from a remote one they would be a way to send our clients anywhere, in plaintext.
func (x *index) sliceWorkloads(k world.Key, served *served) map[string]*mesh.Workload {
	slice := x.state.EndpointSlices[k]
	if slice == nil || k.Cluster != x.config.LocalCluster {
		return nil
	}
	services := served.of(k)
	if services == nil {
		return nil
	}
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
			Services: services, Locality: x.locality(k.In("", ep.Node)),
			Kind: mesh.KindPod, WorkloadName: slice.Service,
		}
	}
	return out
}
