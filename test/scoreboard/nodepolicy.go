// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/nodeproxy"
)

const (
	// With one more, all 10,000 apply to the pod: to the mesh, to its namespace, or because it names them (of those no more than the wire accepts).
	policiesGlobal, policiesLocal, policiesNamed = 2000, 3903, 4096

	policyRounds = 101
	policyBatch  = 1000                  // connections in a round
	policyGoal   = 20 * time.Microsecond // of the issue
)

// nodePolicy measures the verdict on one connection, as the node proxy makes it, for callers of five kinds. The control is the same pod without
// policies. What a change costs the first connection after it is told beside the figures: it is paid once for all connections.
func nodePolicy(ctx context.Context, out io.Writer) (result, error) {
	pod, policies := policedPod()
	live := directory.NewLive()
	began := time.Now()
	full := live.Apply(mesh.Delta{Policies: policies})
	applied := time.Since(began)
	bare := directory.NewLive().Apply(mesh.Delta{})
	judge, bareJudge := nodeproxy.NewJudge(logr.Discard()), nodeproxy.NewJudge(logr.Discard())
	unpoliced := *pod
	unpoliced.Policies = nil
	began = time.Now()
	judge.Authorize(full, pod, callers()[0].Caller)
	indexed := time.Since(began)

	var figures []figure
	for _, c := range callers() {
		for _, got := range []authz.Verdict{judge.Authorize(full, pod, c.Caller), authz.Authorize(full.PoliciesFor(pod), c.Caller)} {
			if got.Allowed != c.allowed || got.Policy != c.by {
				return result{}, fmt.Errorf("%s: the verdict is %+v", c.what, got)
			}
		}
		var times [2][]float64
		for range policyRounds {
			if ctx.Err() != nil {
				return result{}, ctx.Err()
			}
			for side, ask := range []func(){func() { judge.Authorize(full, pod, c.Caller) }, func() { bareJudge.Authorize(bare, &unpoliced, c.Caller) }} {
				began := time.Now()
				for range policyBatch {
					ask()
				}
				times[side] = append(times[side], float64(time.Since(began).Nanoseconds())/policyBatch/1e3)
			}
		}
		known := median(times[1])
		figures = append(figures, figure{What: "verdict, " + c.what, Unit: "µs", Ours: median(times[0]), Control: &known, Against: "no policies", Goal: policyGoal.Seconds() * 1e6})
	}
	worst := 0
	for i, f := range figures {
		if f.Ours > figures[worst].Ours {
			worst = i
		}
	}
	figures[0], figures[worst] = figures[worst], figures[0] // the worst one speaks for the row

	one := *policies["shop/deny-robber"]
	var again []float64
	for range 11 {
		changed := one
		v := live.Apply(mesh.Delta{Policies: map[string]*mesh.Policy{changed.Key(): &changed}})
		began := time.Now()
		if got := judge.Authorize(v, pod, callers()[0].Caller); !got.Allowed {
			return result{}, errors.New("the verdict turned by a change of nothing")
		}
		again = append(again, time.Since(began).Seconds()*1e3)
	}
	fmt.Fprintf(out, "10,000 policies come: %.1f ms for the view, %.1f ms for the first verdict; after one has changed the next verdict takes %.1f ms\n",
		applied.Seconds()*1e3, indexed.Seconds()*1e3, median(again))
	return absolute(out, figures...), nil
}

// policedPod is a pod and the policies that apply to it, half of them DENY, in equal parts of the forms that users write.
func policedPod() (*mesh.Workload, map[string]*mesh.Policy) {
	pod := &mesh.Workload{
		UID: "c0//Pod/shop/cart", Name: "cart", Namespace: "shop", Network: "c0", Cluster: "c0", TrustDomain: "cluster.local", ServiceAccount: "cart",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
	policies := map[string]*mesh.Policy{}
	for i := range policiesGlobal + policiesLocal + policiesNamed {
		p := &mesh.Policy{Name: fmt.Sprint("allow-", i), Namespace: "shop", Scope: mesh.PolicyNamespace}
		if i%2 == 1 {
			p.Name, p.Action = fmt.Sprint("deny-", i), mesh.Deny
		}
		switch {
		case i < policiesGlobal:
			p.Namespace, p.Scope = "isthmus-system", mesh.PolicyGlobal
		case i >= policiesGlobal+policiesLocal:
			p.Scope = mesh.PolicyWorkloads
			pod.Policies = append(pod.Policies, p.Key())
		}
		p.Rules = []mesh.PolicyRule{{Clauses: writtenClauses(i)}}
		policies[p.Key()] = p
	}
	// The last lets the client in. One more denies somebody.
	last := policies[pod.Policies[len(pod.Policies)-1]]
	last.Rules = append(last.Rules, mesh.PolicyRule{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{Principals: is("cluster.local/ns/shop/sa/client")}}}}})
	policies["shop/deny-robber"] = &mesh.Policy{Name: "deny-robber", Namespace: "shop", Scope: mesh.PolicyNamespace, Action: mesh.Deny, Rules: []mesh.PolicyRule{{
		Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{Principals: is("cluster.local/ns/outlaws/sa/robber")}}}},
	}}}
	return pod, policies
}

func is(text string) []mesh.StringMatch { return []mesh.StringMatch{{Value: text}} }

// writtenClauses are those of the policy with a number; none of them holds for the callers of the row.
func writtenClauses(i int) []mesh.PolicyClause {
	one := func(m mesh.PolicyMatch) mesh.PolicyClause { return mesh.PolicyClause{Matches: []mesh.PolicyMatch{m}} }
	team := fmt.Sprint("team-", i)
	port := one(mesh.PolicyMatch{DestinationPorts: []uint16{8080}})
	switch (i / 2) % 7 {
	case 0:
		return []mesh.PolicyClause{one(mesh.PolicyMatch{Principals: is("cluster.local/ns/" + team + "/sa/app")})}
	case 1:
		return []mesh.PolicyClause{one(mesh.PolicyMatch{Namespaces: is(team)}), port}
	case 2:
		return []mesh.PolicyClause{one(mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: "cluster.local/ns/" + team + "/"}}})}
	case 3:
		return []mesh.PolicyClause{port, one(mesh.PolicyMatch{SourceIPs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16 + byte(i>>12&15), byte(i >> 4), byte(i << 4)}), 28)}})}
	case 4:
		return []mesh.PolicyClause{one(mesh.PolicyMatch{ServiceAccounts: []mesh.ServiceAccountMatch{{Namespace: team, ServiceAccount: "app"}}, NotSourceIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})}
	case 5:
		return []mesh.PolicyClause{one(mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: mesh.MatchSuffix, Value: "/sa/" + team}}}), port}
	default:
		return []mesh.PolicyClause{one(mesh.PolicyMatch{DestinationPorts: []uint16{uint16(10000 + i)}, NotNamespaces: is("shop")})}
	}
}

// policyCaller is a caller and what must become of it.
type policyCaller struct {
	authz.Caller
	what    string
	allowed bool
	by      string
}

func callers() []policyCaller {
	from := func(ns, account string) authz.Caller {
		return authz.Caller{
			Peer:   mesh.Identity{TrustDomain: "cluster.local", Namespace: ns, ServiceAccount: account},
			Source: netip.MustParseAddr("10.0.0.2"), Destination: netip.MustParseAddrPort("10.0.0.1:8080"),
		}
	}
	plain := from("", "")
	plain.Peer = mesh.Identity{}
	return []policyCaller{
		{from("shop", "client"), "allowed by the last", true, "shop/allow-9998"},
		{from("team-2002", "app"), "allowed by an early one", true, "shop/allow-2002"},
		{from("outlaws", "robber"), "denied by one", false, "shop/deny-robber"},
		{from("nowhere", "nobody"), "allowed by none", false, ""},
		{plain, "without identity", false, ""},
	}
}
