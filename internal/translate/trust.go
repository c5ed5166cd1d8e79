// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// trustDomain is the one of the identities of a cluster's workloads and gateways. A cluster has no say in it: whoever speaks for another trust
// domain here could have our clients take its pods for ours, so it is our own operator who says which one a remote cluster is of.
func (x *index) trustDomain(c world.Cluster) string {
	if l := x.limits[c]; l != nil && l.TrustDomain != "" && c != x.config.LocalCluster {
		return l.TrustDomain
	}
	return x.config.TrustDomain
}

// trustDomains are those whose identities may use our gateways, sorted: our own, and those of which RemoteClusters say that a cluster is. Whoever
// claims one still has to prove it by the roots that we have for it, and what it may reach is for policies to say.
func (x *index) trustDomains() []string {
	out := []string{x.config.TrustDomain}
	for c := range x.limits {
		if d := x.trustDomain(c); !x.unprovable.has(c) {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// foldTrust notes whether anybody in a cluster can have an identity that a peer could check. The API server refuses a name that is no trust
// domain; one that got past it must not make identities that mean something else.
func (x *index) foldTrust(c world.Cluster) {
	id := mesh.Identity{TrustDomain: x.trustDomain(c), Namespace: "n", ServiceAccount: "s"}
	if got, err := mesh.ParseIdentity(id.String()); err != nil || got != id {
		x.unprovable.add(c)
	} else {
		delete(x.unprovable, c)
	}
}
