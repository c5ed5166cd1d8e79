// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// A way into a cluster is for all services that it exports, whoever made it: what other clusters send to any of them may come by it, and it is told all of them. So it takes more than the
// right to write Gateways in some namespace: the namespace is the system namespace, or one that a cluster's administrator labelled for it. This cluster's own Gateways and those of others are
// judged alike.

// Reasons of Accepted=False of an HBONE listener that may not be a way in.
const (
	ReasonNamespaceNotPermitted = "NamespaceNotPermitted"
	ReasonTooManyWaysIn         = "TooManyWaysIn"
)

// maxWaysIn is how many Gateways of one cluster may lead into one of its networks, and how many of their addresses another cluster uses. Each costs every other cluster one workload for
// each exported service.
const maxWaysIn = 64

// istioSystem is the system namespace of clusters that Istio serves.
const istioSystem = "istio-system"

// mayLeadIn says whether Gateways of a Gateway's namespace may be ways into its cluster.
func (x *index) mayLeadIn(g *world.Gateway) bool {
	return g.Namespace == x.config.SystemNamespace || g.Class == ClassIstioEastWest && g.Namespace == istioSystem ||
		leadsInByLabel(x.state.Namespaces[g.In("", g.Namespace)])
}

// leadsInByLabel says whether a namespace's label lets its Gateways be ways in.
func leadsInByLabel(n *world.Namespace) bool {
	return n != nil && n.Labels[world.LabelEastWestGateways] == "true"
}

// compareWaysIn puts those first that are used if there are too many: of the system namespace, then the oldest.
func (x *index) compareWaysIn(a, b *world.Gateway) int {
	system := func(g *world.Gateway) int {
		if g.Namespace == x.config.SystemNamespace {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(system(a), system(b)), cmp.Compare(a.Created, b.Created), a.Key.Compare(b.Key))
}

// settleWaysIn finds which of our own Gateways are one too many on their network. It is done before anybody asks where tunnels end: of one that is broken that depends on it.
func (x *index) settleWaysIn() {
	x.crowdedWays = nil
	if len(x.gatesIn[x.config.LocalCluster]) <= x.maxWaysIn {
		return
	}
	var ours []*world.Gateway
	for k := range x.gatesIn[x.config.LocalCluster] {
		x.looked++
		g := x.state.Gateways[k]
		if !g.Deleting && x.governs(g) && g.Class != ClassWaypoint && x.mayLeadIn(g) && slices.ContainsFunc(g.Listeners, func(l world.Listener) bool { return l.Protocol == protocolHBONE }) {
			ours = append(ours, g)
		}
	}
	slices.SortFunc(ours, x.compareWaysIn)
	own, _ := x.network(x.config.LocalCluster)
	on := map[string]int{}
	for _, g := range ours {
		network := cmp.Or(g.Network, own)
		if on[network]++; on[network] > x.maxWaysIn {
			if x.crowdedWays == nil {
				x.crowdedWays = set[world.Key]{}
			}
			x.crowdedWays.add(g.Key)
		}
	}
}

// isWayIn says whether one of our own Gateways that is no waypoint may end tunnels of other clusters.
func (x *index) isWayIn(g *world.Gateway) bool { return x.mayLeadIn(g) && !x.crowdedWays.has(g.Key) }

// judgeWayIn says why an HBONE listener of one of our own Gateways may not be one.
func (x *index) judgeWayIn(g *world.Gateway) (gatewayv1.ListenerConditionReason, string) {
	switch {
	case g.Class == ClassWaypoint || x.isWayIn(g):
		return "", ""
	case !x.mayLeadIn(g):
		return ReasonNamespaceNotPermitted, fmt.Sprintf("protocol HBONE: Gateways of namespace %s may not lead into the cluster: those of %s may, and of namespaces that have the label %s: \"true\"",
			g.Namespace, x.config.SystemNamespace, world.LabelEastWestGateways)
	}
	return ReasonTooManyWaysIn, fmt.Sprintf("protocol HBONE: %d other Gateways lead into the network already, which is as many as may", x.maxWaysIn)
}

// shutOut says whether a Gateway may not be a way in although it wants to, and somebody serves it already: who does must be told to stop.
func (x *index) shutOut(at *gate) bool {
	return (unmanaged(at.gateway) || x.made(at.gateway.Key) != nil) && slices.ContainsFunc(at.verdicts, func(v listenerVerdict) bool {
		return v.reason == ReasonNamespaceNotPermitted || v.reason == ReasonTooManyWaysIn
	})
}
