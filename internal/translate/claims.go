// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// claims are the addresses that clusters say are theirs, and those of them that are not believed.
type claims struct {
	by     map[world.Key]claimed                       // pod → the addresses that it may claim; none: no entry
	of     counted[mesh.NetworkAddress, world.Cluster] // address → clusters whose pods claim it, and how many do
	pods   multi[world.Cluster, world.Key]             // cluster → its pods that claim an address which is not theirs
	astray multi[world.Cluster, world.Key]             // cluster → its pods at addresses at which its limits do not let it have any
	doors  map[world.Cluster]refusedDoors              // cluster → gateway addresses that are not used
	at     set[string]                                 // every address and hostname that a remote Gateway says it has
	far    multi[world.Cluster, serviceName]           // cluster → services behind which are pods of identities that its limits keep out
}

// refusedDoors counts the gateway addresses of a cluster that are not used.
type refusedDoors struct {
	foreign     int           // that it must not have at all
	unpermitted int           // of Gateways in namespaces that its own administrators did not label for it
	crowded     int           // that are too many
	taken       int           // that a cluster has which is believed before it
	holder      world.Cluster // the first of those
}

// claimed are the addresses that one pod claims.
type claimed struct {
	network string
	addrs   []netip.Addr
}

func (c claimed) at(a netip.Addr) mesh.NetworkAddress {
	return mesh.NetworkAddress{Network: c.network, Addr: a}
}

func (c claimed) equal(o claimed) bool {
	return c.network == o.network && slices.Equal(c.addrs, o.addrs)
}

func newClaims() claims {
	return claims{
		by: map[world.Key]claimed{}, of: counted[mesh.NetworkAddress, world.Cluster]{}, pods: multi[world.Cluster, world.Key]{},
		astray: multi[world.Cluster, world.Key]{}, doors: map[world.Cluster]refusedDoors{}, at: set[string]{}, far: multi[world.Cluster, serviceName]{},
	}
}

// foldClaim notes the addresses that a pod claims: those of our own pods, and of remote ones that share a network of ours and are within their
// cluster's limits. What it costs does not depend on how many pods claim the same, unless who claims it changes.
func (x *index) foldClaim(k world.Key, now *world.Pod, t *touched) {
	c := &x.claims
	var after claimed
	if now != nil && len(now.Addresses) > 0 {
		network, ok := x.networkOfPod(now)
		if k.Cluster == x.config.LocalCluster || ok && x.near(network) && x.withinLimits(k, now) && x.withinCIDRs(now) {
			after = claimed{network, now.Addresses}
		}
	}
	before := c.by[k]
	if before.equal(after) {
		return
	}
	for _, a := range before.addrs {
		if c.of.remove(before.at(a), k.Cluster) {
			t.claimants(x, k.Cluster, a)
		}
	}
	for _, a := range after.addrs {
		if c.of.add(after.at(a), k.Cluster) {
			t.claimants(x, k.Cluster, a)
		}
	}
	if len(after.addrs) == 0 {
		delete(c.by, k)
	} else {
		c.by[k] = after
	}
}

// ours says whether an address on one of some networks belongs to a pod, a service, a load balancer or the API server of our own cluster. Another cluster's pod
// or gateway that claims it would take over what is sent there. All but pods are on all networks of ours. Of endpoints that are no pods the API server's alone count: whoever may write
// others in some namespace could take pods of a cluster that shares our network out of use.
func (x *index) ours(a netip.Addr, networks ...string) bool {
	return x.vipsAt.has(a) || x.apiServers.has(a) || len(x.ingress[a.String()]) > 0 || slices.ContainsFunc(networks, func(n string) bool {
		return x.claims.of.holds(mesh.NetworkAddress{Network: n, Addr: a}, x.config.LocalCluster)
	})
}

// foldAPIServer notes where our own cluster's API server is reached, as it says itself. It need not be a pod.
func (x *index) foldAPIServer(k world.Key, was, now *world.EndpointSlice, t *touched) {
	if k.Cluster != x.config.LocalCluster || k.Namespace != apiServerNamespace {
		return
	}
	for _, slice := range []*world.EndpointSlice{was, now} {
		if slice == nil || slice.Service != apiServerService {
			continue
		}
		for _, ep := range slice.Endpoints {
			for _, a := range ep.Addresses {
				if slice == was {
					x.apiServers.remove(a, k)
				} else {
					x.apiServers.add(a, k)
				}
				t.claimants(x, k.Cluster, a)
			}
		}
	}
}

// The Service by which an API server is reached, which it keeps itself.
const apiServerNamespace, apiServerService = "default", "kubernetes"

// stolen says whether a remote cluster's pod on a network of ours claims an address that is not its own: one of ours, or one that another
// remote cluster, which was linked first, claims too. In which of the two the pod really is nobody here can tell; so that it cannot be changed by
// whoever comes later, the order is one that a cluster does not choose for itself.
func (x *index) stolen(c world.Cluster, p *world.Pod, network string) bool {
	return slices.ContainsFunc(p.Addresses, func(a netip.Addr) bool {
		if x.ours(a, network) || !world.Claimable(a) {
			return true
		}
		for other := range x.claims.of.of(mesh.NetworkAddress{Network: network, Addr: a}) {
			if x.compareClusters(other, c) < 0 {
				return true
			}
		}
		return false
	})
}

// withinLimits says whether a remote cluster may have a pod of that namespace and identity at all.
func (x *index) withinLimits(k world.Key, p *world.Pod) bool {
	l := x.limits[k.Cluster]
	return namespaceAllowed(l, k.Namespace) && identityAllowed(l, k.Namespace, p.ServiceAccount)
}

// withinCIDRs says whether a remote cluster's limits let it have a pod at its addresses. It matters on networks of ours only: nobody here sends anything to addresses on others.
func (x *index) withinCIDRs(p *world.Pod) bool {
	l := x.limits[p.Cluster]
	return l == nil || len(l.PodCIDRs) == 0 || !slices.ContainsFunc(p.Addresses, func(a netip.Addr) bool {
		return !slices.ContainsFunc(l.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(a) })
	})
}

// astray says whether a remote cluster's pod would be used but for its addresses, at which its limits do not let it be. One on the host network is not used at its node's address, and nothing
// is wrong with that: every cluster has such pods, nothing is sent to them by a service, and nobody is found by that address.
func (x *index) astray(k world.Key, p *world.Pod) bool {
	if p == nil || p.HostNetwork || x.withinCIDRs(p) {
		return false
	}
	network, ok := x.networkOfPod(p)
	return ok && x.near(network) && x.withinLimits(k, p)
}

// refreshClaim notes whether a pod, nil if it is not there, claims what is not its own, or is where it may not be, and says whether that is news.
func (x *index) refreshClaim(k world.Key, p *world.Pod) bool {
	if k.Cluster == x.config.LocalCluster {
		return false // ours are believed
	}
	claimed, claims := x.claims.by[k]
	stolen := p != nil && claims && x.stolen(k.Cluster, p, claimed.network)
	news := x.claims.pods.put(k.Cluster, k, stolen)
	return x.claims.astray.put(k.Cluster, k, x.astray(k, p)) || news
}

// mayOpen says whether an address that a remote Gateway says it has may be a way into its network: nothing of our own cluster, which has some networks, may be reached there.
func (x *index) mayOpen(d *door, here []string) bool {
	x.claims.at.add(d.address)
	if len(x.ingress[d.address]) > 0 {
		return false
	}
	if d.addr.IsValid() {
		return !x.ours(d.addr, here...) && world.Claimable(d.addr)
	}
	return d.address != x.config.ClusterDomain && !strings.HasSuffix(d.address, "."+x.config.ClusterDomain)
}

// identities counts the pods behind a cluster's services whose identities its limits keep out.
func (x *index) identities(c world.Cluster) int {
	sum := 0
	for n := range x.claims.far[c] {
		sum += x.strangers(c, n)
	}
	return sum
}

// strangers counts the pods behind a service whose identities the cluster's limits keep out.
func (x *index) strangers(c world.Cluster, n serviceName) int {
	sum := 0
	if m := x.members[n.in(c)]; m != nil && x.limits[c] != nil {
		for p, t := range m.places {
			if !identityAllowed(x.limits[c], n.Namespace, p.account) {
				sum += t.all
			}
		}
	}
	return sum
}

// refreshStrangers notes whether there are such pods behind a service that the cluster offers.
func (x *index) refreshStrangers(c world.Cluster, n serviceName, offered bool) {
	if offered && x.strangers(c, n) > 0 {
		x.claims.far.add(c, n)
	} else {
		x.claims.far.remove(c, n)
	}
}

// claimants notes those who may claim an address that just was given to, or taken from, something.
func (t *touched) claimants(x *index, c world.Cluster, a netip.Addr) {
	for pod := range x.farPodsAt.of(a) {
		if pod.Cluster != c {
			t.pods.add(pod)
		}
	}
	if c == x.config.LocalCluster && x.claims.at.has(a.String()) {
		t.doors.add(c)
	}
}

// claimantsOf is claimants for what a load balancer gave: an address or a hostname.
func (t *touched) claimantsOf(x *index, c world.Cluster, at string) {
	if a, err := netip.ParseAddr(at); err == nil {
		t.claimants(x, c, a)
	} else if x.claims.at.has(at) {
		t.doors.add(c)
	}
}

// Refused sums up what is not believed of a cluster; "" if all is.
func (c RemoteCount) Refused() string {
	var parts []string
	if c.RefusedPods > 0 {
		parts = append(parts, fmt.Sprintf("%d pods claim addresses that belong to this cluster or to another one", c.RefusedPods))
	}
	if c.Astray > 0 {
		parts = append(parts, fmt.Sprintf("%d pods on a network of this cluster claim addresses that spec.import.podCIDRs does not allow", c.Astray))
	}
	if c.RefusedNetworks > 0 {
		parts = append(parts, fmt.Sprintf("%d pods claim to be on networks, such as %s, that spec.import.networks does not allow", c.RefusedNetworks, c.RefusedNetwork))
	}
	if c.RefusedDoors > 0 {
		parts = append(parts, fmt.Sprintf("%d addresses of Gateways are ones of this cluster, or of Gateways in namespaces that spec.import.namespaces, or on networks that spec.import.networks, does not allow", c.RefusedDoors))
	}
	if c.UnpermittedDoors > 0 {
		parts = append(parts, fmt.Sprintf("%d addresses are of east-west Gateways in namespaces of the cluster that do not have the label %s: \"true\"", c.UnpermittedDoors, world.LabelEastWestGateways))
	}
	if c.CrowdedDoors > 0 {
		parts = append(parts, fmt.Sprintf("%d addresses of Gateways come after the %d that are used of one network", c.CrowdedDoors, maxWaysIn))
	}
	if c.Scattered > 0 {
		parts = append(parts, fmt.Sprintf("%d global services have pods of more than %d service accounts (on each network that their labels name): nothing of these services is used", c.Scattered, maxPlaces))
	}
	if c.RefusedScopes > 0 {
		parts = append(parts, fmt.Sprintf("%d ServiceScopes come after the %d entries that are asked of another cluster: what they alone call GLOBAL is not used", c.RefusedScopes, maxFarEntries))
	}
	if c.TakenDoors > 0 {
		parts = append(parts, fmt.Sprintf("%d addresses and ports of Gateways are those of Gateways of clusters that were linked earlier, such as %s", c.TakenDoors, c.DoorHolder))
	}
	return strings.Join(parts, "; ")
}
