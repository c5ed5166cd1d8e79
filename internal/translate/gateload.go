// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxGatePolicies is how many bytes, on the wire, one Gateway is told of policies of its own namespace that judge all that comes to it; and it is told of as many of those of the system namespace. It is
// as much as 40,000 identities take.
const maxGatePolicies = 4 << 20

// gateLoads are the policies that may judge all that comes to a Gateway, and those of them that are too much.
type gateLoads struct {
	most  int // bytes of a namespace's, at one Gateway
	sizes map[world.Key]int
	of    map[string]int                // namespace → bytes of all
	out   map[world.Key]mesh.GatewayKey // policy → the first Gateway at which it is beyond the bound
}

// judgesGates says whether a policy may be about all that comes to a Gateway.
func judgesGates(p *world.AuthorizationPolicy) bool {
	return !p.HasTargets || slices.ContainsFunc(p.Targets, func(t world.PolicyTarget) bool { return t.Group == gatewayv1.GroupName })
}

// foldGateLoad notes how much a policy adds to what Gateways are told.
func (x *index) foldGateLoad(k world.Key, now *world.AuthorizationPolicy) {
	if k.Cluster != x.config.LocalCluster {
		return
	}
	l := &x.gateLoads
	l.of[k.Namespace] -= l.sizes[k]
	delete(l.sizes, k)
	if now != nil && judgesGates(now) {
		if c := x.compile(now); c.policy != nil {
			l.sizes[k] = c.policy.Size()
		}
	}
	if l.of[k.Namespace] += l.sizes[k]; l.of[k.Namespace] == 0 {
		delete(l.of, k.Namespace)
	}
}

// heavy says whether the policies of a namespace may be more than a Gateway is told of.
func (x *index) heavy(namespace string) bool { return x.gateLoads.of[namespace] > x.gateLoads.most }

// settleGates finds which policies are beyond the bound at any Gateway.
func (x *index) settleGates(t *touched) {
	if !t.gateways && !t.guards {
		return
	}
	was := x.gateLoads.out
	x.gateLoads.out = map[world.Key]mesh.GatewayKey{}
	if len(x.gateLoads.of) > 0 {
		for k := range x.gatesIn[x.config.LocalCluster] {
			g := x.state.Gateways[k]
			if !x.ourClass(g.Class) || !x.heavy(k.Namespace) && !x.heavy(x.config.SystemNamespace) {
				continue
			}
			name := mesh.GatewayKey{Namespace: k.Namespace, Name: k.Name}
			_, beyond := x.gatePolicies(g)
			for _, p := range beyond {
				if other, some := x.gateLoads.out[p.Key]; !some || compareGateways(name, other) < 0 {
					x.gateLoads.out[p.Key] = name
				}
			}
		}
	}
	for _, pair := range [][2]map[world.Key]mesh.GatewayKey{{was, x.gateLoads.out}, {x.gateLoads.out, was}} {
		for k, at := range pair[0] {
			if other, both := pair[1][k]; !both || at != other {
				t.policies.add(k)
			}
		}
	}
}

func compareGateways(a, b mesh.GatewayKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// bounded divides policies of one namespace into those that a Gateway is told of, the lightest first, and those that are beyond the bound.
func (x *index) bounded(policies []*world.AuthorizationPolicy) (within, beyond []*world.AuthorizationPolicy) {
	sizes, sum := x.gateLoads.sizes, 0
	slices.SortFunc(policies, func(a, b *world.AuthorizationPolicy) int {
		return cmp.Or(cmp.Compare(sizes[a.Key], sizes[b.Key]), a.Key.Compare(b.Key))
	})
	for i, p := range policies {
		if sum += sizes[p.Key]; sum > x.gateLoads.most {
			return policies[:i], policies[i:]
		}
	}
	return policies, nil
}

// standIns are what a Gateway is told instead of policies of a namespace that are beyond the bound: that nobody is let in by those that allow, and nobody at all if some deny. Who may
// write one that is beyond the bound may write one that denies everything. Those in dry run decide nothing, and have none.
func standIns(beyond []*world.AuthorizationPolicy) []*mesh.Policy {
	var out []*mesh.Policy
	for _, of := range []struct {
		action string
		policy mesh.Policy
	}{
		{"ALLOW", mesh.Policy{Name: "(too many that allow)", Action: mesh.Allow}},
		{"DENY", mesh.Policy{Name: "(too many that deny)", Action: mesh.Deny, Rules: []mesh.PolicyRule{{}}}},
	} {
		if at := slices.IndexFunc(beyond, func(p *world.AuthorizationPolicy) bool { return p.Action == of.action && !p.DryRun }); at >= 0 {
			policy := of.policy
			policy.Namespace, policy.Scope = beyond[at].Namespace, mesh.PolicyWorkloads
			out = append(out, &policy)
		}
	}
	return out
}

// beyondGate says that a policy is beyond the bound at a Gateway; empty: it is at none.
func (x *index) beyondGate(p *world.AuthorizationPolicy) string {
	at, beyond := x.gateLoads.out[p.Key]
	if !beyond {
		return ""
	}
	instead := "let nobody in by it"
	switch {
	case p.DryRun:
		instead = "do not tell what it would decide"
	case p.Action == "DENY":
		instead = "let nobody in"
	}
	return fmt.Sprintf("the policies of namespace %s that judge what comes to Gateway %s/%s are more than %d MiB, and this one is beyond that: gateways take no more, and %s", p.Namespace, at.Namespace, at.Name, maxGatePolicies>>20, instead)
}
