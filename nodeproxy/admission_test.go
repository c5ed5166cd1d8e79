// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"net/netip"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// judged is a pod with what judges its connections, and nothing else of a proxy.
func judged(t *testing.T) (*directory.Live, *pod) {
	t.Helper()
	live := directory.NewLive()
	x := &Proxy{
		o: Options{Log: logr.Discard(), View: live, Cluster: "east", Network: "east"}, connections: newConnections(),
		metrics: newMetrics(prometheus.NewRegistry()), judge: NewJudge(logr.Discard()),
	}
	return live, &pod{proxy: x, info: zds.Workload{UID: "1", Name: "cart", Namespace: "shop", ServiceAccount: "cart"}}
}

func cartNaming(policies ...string) *mesh.Workload {
	return &mesh.Workload{
		UID: "east//Pod/shop/cart", Name: "cart", Namespace: "shop", Cluster: "east", Network: "east", ServiceAccount: "cart", TrustDomain: "cluster.local",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Policies: policies,
	}
}

// The pod is looked up before its connection is known to those who judge again. What changes between counts.
func TestAdmissionHeedsWhatChangedJustNow(t *testing.T) {
	deny := &mesh.Policy{Namespace: "shop", Name: "none", Scope: mesh.PolicyWorkloads, Action: mesh.Allow}
	for _, tc := range []struct {
		name          string
		before, after mesh.Delta
		reason        reach.Reason
	}{
		{"the pod is told of a policy", mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming()}, Policies: map[string]*mesh.Policy{deny.Key(): deny}},
			mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming(deny.Key())}}, reach.ReasonDenied},
		{"the pod is rid of it", mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming(deny.Key())}, Policies: map[string]*mesh.Policy{deny.Key(): deny}},
			mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming()}}, ""},
		{"the policy that it names is there", mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming(deny.Key())}},
			mesh.Delta{Policies: map[string]*mesh.Policy{deny.Key(): deny}}, reach.ReasonDenied},
		{"the pod is gone, and is judged as it was", mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming(deny.Key())}, Policies: map[string]*mesh.Policy{deny.Key(): deny}},
			mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: nil}}, reach.ReasonDenied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			live, p := judged(t)
			live.Apply(tc.before)
			self, refusal := p.workload(t.Context())
			if refusal != nil {
				t.Fatal(refusal)
			}
			_, abort := context.WithCancelCause(t.Context())
			defer abort(nil)
			conn := &Connection{
				Direction: Inbound, pod: p, self: self, abort: abort, Source: netip.MustParseAddrPort("10.0.0.9:1000"), Destination: netip.MustParseAddrPort("10.0.0.1:80"),
			}
			live.Apply(tc.after)
			p.proxy.connections.rejudge(live.Load()) // as whoever follows the view does, before the connection is known
			_, refusal = p.proxy.admit(conn)
			switch {
			case refusal == nil && tc.reason != "":
				t.Errorf("it is let in, want %s", tc.reason)
			case refusal != nil && refusal.Reason != tc.reason:
				t.Errorf("%v, want %q", refusal, tc.reason)
			}
		})
	}
}

// Who is judged for the first time is known already: what comes after that ends it.
func TestAdmittedConnectionsAreJudgedAgain(t *testing.T) {
	live, p := judged(t)
	live.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming()}})
	self, _ := p.workload(t.Context())
	ctx, abort := context.WithCancelCause(t.Context())
	conn := &Connection{Direction: Inbound, pod: p, self: self, abort: abort, Source: netip.MustParseAddrPort("10.0.0.9:1000"), Destination: netip.MustParseAddrPort("10.0.0.1:80")}
	if _, refusal := p.proxy.admit(conn); refusal != nil {
		t.Fatal(refusal)
	}
	deny := &mesh.Policy{Namespace: "shop", Name: "none", Scope: mesh.PolicyNamespace, Action: mesh.Allow}
	live.Apply(mesh.Delta{Policies: map[string]*mesh.Policy{deny.Key(): deny}})
	if p.proxy.connections.rejudge(live.Load()); ctx.Err() == nil {
		t.Error("it goes on")
	}
}

// What policies in dry run would decide is told once of a connection, however often it is judged, and again when it is something else.
func TestDryRunIsToldOnce(t *testing.T) {
	live, p := judged(t)
	registry := prometheus.NewRegistry()
	p.proxy.metrics = newMetrics(registry)
	dry := func(name string, action mesh.PolicyAction, on bool) mesh.Delta {
		return mesh.Delta{Policies: map[string]*mesh.Policy{"shop/" + name: {Namespace: "shop", Name: name, Scope: mesh.PolicyNamespace, Action: action, DryRun: on, Rules: []mesh.PolicyRule{{}}}}}
	}
	live.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{cartNaming().UID: cartNaming()}})
	self, _ := p.workload(t.Context())
	_, abort := context.WithCancelCause(t.Context())
	defer abort(nil)
	conn := &Connection{Direction: Inbound, pod: p, self: self, abort: abort, Source: netip.MustParseAddrPort("10.0.0.9:1000"), Destination: netip.MustParseAddrPort("10.0.0.1:80")}
	live.Apply(dry("none", mesh.Deny, true))
	if _, refusal := p.proxy.admit(conn); refusal != nil {
		t.Fatal(refusal)
	}
	for i, step := range []struct {
		change mesh.Delta
		told   float64
	}{
		{mesh.Delta{}, 1},
		{dry("all", mesh.Allow, false), 1},
		{mesh.Delta{Policies: map[string]*mesh.Policy{"shop/all": nil}}, 1},
		{mesh.Delta{Policies: map[string]*mesh.Policy{"shop/none": nil}}, 1},
		{dry("none", mesh.Deny, true), 2},
		{dry("before", mesh.Deny, true), 3}, // now another policy would deny
	} {
		live.Apply(step.change)
		p.proxy.connections.rejudge(live.Load())
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "isthmus_dry_run_differences_total" && f.GetMetric()[0].GetCounter().GetValue() != step.told {
				t.Errorf("step %d: told %v times, want %v", i, f.GetMetric()[0].GetCounter().GetValue(), step.told)
			}
		}
	}
}
