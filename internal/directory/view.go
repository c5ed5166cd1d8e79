// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// PodKey names a pod of one cluster.
type PodKey struct{ Cluster, Namespace, Name string }

// View is one generation of everything that is known, indexed for the questions that a proxy asks. It is immutable and safe for
// any number of readers. Slices that it returns are shared and must not be changed.
type View struct {
	workloads index[string, *mesh.Workload]
	// byAddress lists the workloads of one address, sorted by UID: pods on the host network share the node's.
	byAddress index[mesh.NetworkAddress, []*mesh.Workload]
	// byHostname lists workloads that are found by name instead of address, such as gateways behind a load balancer with a name.
	byHostname index[mesh.ServiceKey, []*mesh.Workload]
	byPod      index[PodKey, []*mesh.Workload]
	endpoints  index[mesh.ServiceKey, []*mesh.Workload]

	services      index[mesh.ServiceKey, *mesh.Service]
	servicesByVIP index[mesh.NetworkAddress, []*mesh.Service]
	servicesOver  index[mesh.NetworkRange, []*mesh.Service]
	servicesNamed index[string, []*mesh.Service]

	policies index[string, *mesh.Policy]
	// scoped lists the policies that apply without being named by a workload: by namespace, global ones under "".
	scoped     index[string, []*mesh.Policy]
	policyTurn uint64

	gateways index[mesh.GatewayKey, *mesh.Gateway]

	superseded chan struct{}
}

// Superseded is closed when a newer view was published.
func (v *View) Superseded() <-chan struct{} { return v.superseded }

// Workload finds the workload with this UID, or nil.
func (v *View) Workload(uid string) *mesh.Workload {
	w, _ := v.workloads.get(uid)
	return w
}

// OwnerAt finds who has an address to itself, or nil: the address of a node is none of its host network pods' own, and what is connected to there may be any of them, or the node.
func (v *View) OwnerAt(network string, addr netip.Addr) *mesh.Workload {
	if w := v.WorkloadAt(network, addr); w != nil && !w.HostNetwork {
		return w
	}
	return nil
}

// WorkloadAt finds who lives at an address, or nil. When several do (pods on the host network), the one with an address of its
// own comes first, then the first by UID.
func (v *View) WorkloadAt(network string, addr netip.Addr) *mesh.Workload {
	all, _ := v.byAddress.get(mesh.NetworkAddress{Network: network, Addr: addr.Unmap()})
	for _, w := range all {
		if !w.HostNetwork {
			return w
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return nil
}

// WorkloadNamed finds a workload that is reached by a hostname instead of an address, or nil.
func (v *View) WorkloadNamed(key mesh.ServiceKey) *mesh.Workload {
	all, _ := v.byHostname.get(key)
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// Pod finds the workload of a pod, or nil. An empty serviceAccount matches any.
func (v *View) Pod(key PodKey, serviceAccount string) *mesh.Workload {
	all, _ := v.byPod.get(key)
	for _, w := range all {
		// A split-horizon workload or a gateway's has no pod, whatever it is called.
		if w.NetworkGateway == nil && (serviceAccount == "" || w.ServiceAccount == serviceAccount) && len(w.Addresses) > 0 {
			return w
		}
	}
	return nil
}

// Service finds a service by key, or nil.
func (v *View) Service(key mesh.ServiceKey) *mesh.Service {
	s, _ := v.services.get(key)
	return s
}

// ServiceAt finds the service whose VIP this is, as a client in the namespace sees it, or nil: its own namespace's first, then
// the canonical one, then the first by key. Services that are hidden from the namespace are not found.
func (v *View) ServiceAt(network string, addr netip.Addr, clientNamespace string) *mesh.Service {
	all, _ := v.servicesByVIP.get(mesh.NetworkAddress{Network: network, Addr: addr.Unmap()})
	return prefer(all, clientNamespace)
}

// ServiceOver finds the service of the smallest range that holds an address, chosen like ServiceAt, or nil: also if the address is that of a service or of somebody who lives there.
func (v *View) ServiceOver(network string, addr netip.Addr, clientNamespace string) *mesh.Service {
	if v.servicesOver.shards == nil || v.WorkloadAt(network, addr) != nil || v.ServiceAt(network, addr, clientNamespace) != nil { // the first in all meshes but those that Istio leads
		return nil
	}
	addr = addr.Unmap()
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p, err := addr.Prefix(bits)
		if err != nil {
			return nil
		}
		all, _ := v.servicesOver.get(mesh.NetworkRange{Network: network, Prefix: p})
		if s := prefer(all, clientNamespace); s != nil {
			return s
		}
	}
	return nil
}

// ServiceNamed finds the service with this full hostname (lower case, no dot at the end), chosen like ServiceAt, or nil.
func (v *View) ServiceNamed(hostname, clientNamespace string) *mesh.Service {
	all, _ := v.servicesNamed.get(hostname)
	return prefer(all, clientNamespace)
}

func prefer(all []*mesh.Service, namespace string) *mesh.Service {
	var best *mesh.Service
	for _, s := range all {
		if s.Namespace == namespace {
			return s
		}
		if s.NamespaceOnly {
			continue
		}
		if best == nil || s.Canonical && !best.Canonical {
			best = s
		}
	}
	return best
}

// Endpoints are the workloads that say they belong to a service, healthy or not, of every network, sorted by UID.
func (v *View) Endpoints(key mesh.ServiceKey) []*mesh.Workload {
	all, _ := v.endpoints.get(key)
	return all
}

// Policy finds a policy by "namespace/name", or nil.
func (v *View) Policy(key string) *mesh.Policy {
	p, _ := v.policies.get(key)
	return p
}

// ScopedPolicies lists the policies of a namespace that apply to all of its workloads, or, for "", those of the whole mesh, sorted by
// key. It gives the same slice, of the same address, until one of them changes.
func (v *View) ScopedPolicies(namespace string) []*mesh.Policy {
	all, _ := v.scoped.get(namespace)
	return all
}

// NamedPolicies lists the policies that a workload names and that do not apply to it anyway, and the names of those that are not known. These are left out, for the policy may
// arrive a moment later; whoever waits for it hears of it by Superseded.
func (v *View) NamedPolicies(w *mesh.Workload) (known []*mesh.Policy, unknown []string) {
	for _, key := range w.Policies {
		switch p := v.Policy(key); {
		case p == nil:
			unknown = append(unknown, key)
		case p.Scope == mesh.PolicyWorkloads, p.Scope == mesh.PolicyNamespace && p.Namespace != w.Namespace:
			known = append(known, p)
		}
	}
	return known, unknown
}

// PoliciesFor lists the policies that apply to a workload: global ones, its namespace's, and those it names.
func (v *View) PoliciesFor(w *mesh.Workload) []*mesh.Policy {
	global, local := v.ScopedPolicies(""), []*mesh.Policy(nil)
	if w.Namespace != "" {
		local = v.ScopedPolicies(w.Namespace)
	}
	named, _ := v.NamedPolicies(w)
	return slices.Concat(global, local, named)
}

// PolicyTurn changes whenever a policy did. Two views of one Live with the same turn hold the same policies.
func (v *View) PolicyTurn() uint64 { return v.policyTurn }

// Gateway finds a gateway's configuration, or nil.
func (v *View) Gateway(key mesh.GatewayKey) *mesh.Gateway {
	g, _ := v.gateways.get(key)
	return g
}

// Counts says how much is known, for metrics.
func (v *View) Counts() (workloads, services, policies int) {
	return v.workloads.len(), v.services.len(), v.policies.len()
}

// Snapshot copies the view's contents into maps of the caller's own. It is slow, and meant for dumps.
func (v *View) Snapshot() mesh.Snapshot {
	s := mesh.NewSnapshot()
	collect(v.workloads, s.Workloads)
	collect(v.services, s.Services)
	collect(v.policies, s.Policies)
	collect(v.gateways, s.Gateways)
	return s
}

func collect[K comparable, V any](from index[K, V], into map[K]V) {
	from.each(func(k K, v V) bool {
		into[k] = v
		return true
	})
}
