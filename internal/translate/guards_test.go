// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestGuardsFollowWhatTheyAreAbout changes, one after the other, all that decides who judges by a policy for a Service, and demands after each
// change that the Engine says what Build says.
func TestGuardsFollowWhatTheyAreAbout(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/service-policies.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var moves []move
	step := 0
	put := func(o world.Object) { moves = append(moves, move{step: step, ref: o.Ref(), put: o}); step++ }
	for _, o := range read(t, archive) {
		moves = append(moves, move{ref: o.Ref(), put: o})
	}
	step++
	find := func(kind world.Kind, namespace, name string) world.Object {
		for _, m := range moves {
			if m.ref == (world.ObjectRef{Kind: kind, Key: world.Key{Cluster: "east", Namespace: namespace, Name: name}}) {
				return m.put
			}
		}
		t.Fatalf("the story has no %s %s/%s", kind, namespace, name)
		return nil
	}
	shared := find(world.KindService, "demo", "shared").(*world.Service)
	with := func(labels map[string]string) *world.Service {
		s := *shared
		s.Labels = labels
		return &s
	}
	demo := *find(world.KindNamespace, "", "demo").(*world.Namespace)
	behind := demo
	behind.Labels = map[string]string{world.LabelUseWaypoint: "wp"}
	waypoint := find(world.KindGateway, "demo", "wp").(*world.Gateway)
	young := *waypoint
	young.Status = nil
	gone := func(o world.Object) { moves = append(moves, move{step: step, ref: o.Ref()}); step++ }
	ew, ew2 := find(world.KindGateway, "edge", "ew"), find(world.KindGateway, "edge", "ew2")
	class := find(world.KindGatewayClass, "", "eastwest")

	put(with(map[string]string{world.LabelGlobal: "true", world.LabelUseWaypoint: "wp"}))
	put(&young)
	put(waypoint)
	put(with(map[string]string{world.LabelGlobal: "true"}))
	put(&behind)
	put(&demo)
	put(with(nil))
	put(with(map[string]string{world.LabelGlobal: "true"}))
	gone(shared)
	put(shared)
	gone(ew)
	gone(ew2)
	put(ew2)
	gone(class)
	put(class)
	gone(waypoint)

	// Without its place in the story, a policy for the Service; then more than a gateway takes, and fewer again.
	policy := *find(world.KindAuthorizationPolicy, "demo", "shared").(*world.AuthorizationPolicy)
	gone(&policy)
	heavy := policy
	heavy.Rules = []world.PolicyRule{{From: []world.PolicySource{{Namespaces: make([]string, maxGuardValues)}}}}
	put(&policy)
	put(&heavy)
	heavier := heavy // no less than too much
	heavier.Rules = append(heavier.Rules[:1:1], world.PolicyRule{})
	put(&heavier)
	another := heavy
	another.Name = "another"
	put(&another)
	gone(&another)
	put(&policy)
	agree(t, moves)
}

// TestTooManyPoliciesCloseAService: at the gateways, and for that service alone; each of the policies says so.
func TestTooManyPoliciesCloseAService(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/service-policies.txtar")
	if err != nil {
		t.Fatal(err)
	}
	d := world.NewDelta()
	for _, o := range read(t, archive) {
		d.Put(o)
	}
	var many []*world.AuthorizationPolicy
	for i := range maxGuards + 1 {
		p := &world.AuthorizationPolicy{Key: world.Key{Cluster: "east", Namespace: "demo", Name: fmt.Sprint("p", i)}, Action: "ALLOW",
			HasTargets: true, Targets: []world.PolicyTarget{{Kind: targetService, Name: "free"}}, Rules: []world.PolicyRule{{}}}
		many = append(many, p)
		d.Put(p)
	}
	state := world.NewState()
	state.Apply(d)
	out := Build(state, testConfig)
	for k, g := range out.Mesh.Gateways {
		want := 3 // shared, fronted, and the one with too many
		if k.Name == "ours" {
			want = 1 // what the waypoint stands in front of
		}
		if len(g.ServicePolicies) != want {
			t.Fatalf("%s: %d services have policies", k, len(g.ServicePolicies))
		}
		for _, of := range g.ServicePolicies {
			closed := of.Service.Hostname == "free.demo.svc.cluster.local"
			if p := of.Policies[0]; closed != (len(of.Policies) == 1 && p.Action == mesh.Deny && len(p.Rules) == 1 && len(p.Rules[0].Clauses) == 0) {
				t.Errorf("%s: %s has %d policies, the first is %+v", k, of.Service, len(of.Policies), p)
			}
		}
	}
	for _, p := range many {
		if f := out.Findings[p.Ref()]; len(f) != 1 || f[0].Reason != ReasonTooMany {
			t.Fatalf("%s: %+v", p.Name, f)
		}
	}
}
