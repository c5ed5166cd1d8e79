// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// guardedWorld is an engine with an east-west gateway, and Services of namespaces that are shared with other clusters.
type guardedWorld struct {
	*Engine
	t *testing.T
}

func newGuardedWorld(t *testing.T, most int, services map[string]int) *guardedWorld {
	archive, err := txtar.ParseFile("testdata/service-policies.txtar")
	if err != nil {
		t.Fatal(err)
	}
	w := &guardedWorld{NewEngine(testConfig), t}
	w.x.crowded.most = most
	d := world.NewDelta()
	for _, o := range read(t, archive) {
		d.Put(o)
	}
	for namespace, n := range services {
		for i := range n {
			d.Put(&world.Service{Key: world.Key{Cluster: "east", Namespace: namespace, Name: fmt.Sprint("s", i)}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(100 + len(namespace)), 1, byte(i)})},
				Labels: map[string]string{world.LabelGlobal: "true"}, Ports: []world.ServicePort{{Port: 80}}})
		}
	}
	w.Apply(d)
	return w
}

// guard has a policy with some long paths target a Service.
func (w *guardedWorld) guard(namespace, service string, paths int) *world.AuthorizationPolicy {
	p := &world.AuthorizationPolicy{Key: world.Key{Cluster: "east", Namespace: namespace, Name: "p-" + service}, Action: "ALLOW", HasTargets: true, Targets: []world.PolicyTarget{{Kind: targetService, Name: service}}}
	var operation world.PolicyOperation
	for i := range paths {
		operation.Paths = append(operation.Paths, fmt.Sprint("/", strings.Repeat("x", 2000), i))
	}
	p.Rules = []world.PolicyRule{{To: []world.PolicyOperation{operation}}}
	d := world.NewDelta()
	d.Put(p)
	w.Apply(d)
	return p
}

// shut says which Services of some namespaces the east-west gateway lets nobody in to, and how many it judges by policies.
func (w *guardedWorld) shut() (closed map[string]bool, judged, bytes int) {
	closed = map[string]bool{}
	for k, g := range w.Output().Mesh.Gateways {
		if k.Name != "ew" {
			continue
		}
		for _, of := range g.ServicePolicies {
			for _, p := range of.Policies {
				bytes += p.Size()
			}
			name, _, _ := strings.Cut(of.Service.Hostname, ".")
			if p := of.Policies[0]; p.Action == mesh.Deny && len(p.Rules) == 1 && len(p.Rules[0].Clauses) == 0 {
				closed[of.Service.Namespace+"/"+name] = true
				continue
			}
			judged++
		}
	}
	return closed, judged, bytes
}

func (w *guardedWorld) reason(p *world.AuthorizationPolicy) string {
	f := w.Output().Findings[p.Ref()]
	if len(f) != 1 {
		w.t.Fatalf("%s: %+v", p.Key, f)
	}
	return f[0].Reason
}

// Few values can be long: a Service whose policies take too much is closed, says so, and is open again when they take less.
func TestLongPoliciesCloseAService(t *testing.T) {
	w := newGuardedWorld(t, maxGuardLoad, map[string]int{"tenant": 2})
	small, large := w.guard("tenant", "s0", 10), w.guard("tenant", "s1", maxGuardBytes/2000)
	closed, _, bytes := w.shut()
	if !closed["tenant/s1"] || closed["tenant/s0"] || bytes > maxGuardBytes || w.reason(large) != ReasonTooMany || w.reason(small) == ReasonTooMany {
		t.Errorf("closed: %v; gateways are told of %d bytes; reasons %s, %s", closed, bytes, w.reason(large), w.reason(small))
	}
	w.guard("tenant", "s1", 10)
	if closed, _, _ := w.shut(); len(closed) != 0 || w.reason(large) == ReasonTooMany {
		t.Errorf("closed: %v, %s", closed, w.reason(large))
	}
}

// What all policies take is bounded, whoever has how many of them: who has little keeps it, what is more is closed, and nothing is ever open.
func TestPoliciesOfAllServicesAreBounded(t *testing.T) {
	const most = 1 << 20
	w := newGuardedWorld(t, most, map[string]int{"greedy": 8, "modest": 2})
	before, judgedBefore, _ := w.shut()
	if len(before) != 0 {
		t.Fatalf("closed at first: %v", before)
	}
	little := []*world.AuthorizationPolicy{w.guard("modest", "s0", 10), w.guard("modest", "s1", 20)}
	var much []*world.AuthorizationPolicy
	for i := range 8 {
		much = append(much, w.guard("greedy", fmt.Sprint("s", i), 110))
	}
	closed, judged, bytes := w.shut()
	if len(closed) != 4 || judged != judgedBefore+6 || bytes > most {
		t.Errorf("closed: %v; %d are judged, which were %d; %d bytes", closed, judged, judgedBefore, bytes)
	}
	for _, p := range little {
		if w.reason(p) == ReasonTooMany {
			t.Errorf("%s is closed", p.Key)
		}
	}
	for i, p := range much {
		if shut := closed[fmt.Sprint("greedy/s", i)]; shut != (w.reason(p) == ReasonTooMany) {
			t.Errorf("%s: closed is %v, and it says %s", p.Key, shut, w.reason(p))
		}
	}
	// In another order the same are closed, and fewer when there is less.
	again := newGuardedWorld(t, most, map[string]int{"greedy": 8, "modest": 2})
	for i := range 8 {
		again.guard("greedy", fmt.Sprint("s", 7-i), 110)
	}
	again.guard("modest", "s1", 20)
	again.guard("modest", "s0", 10)
	if other, _, _ := again.shut(); fmt.Sprint(other) != fmt.Sprint(closed) {
		t.Errorf("in another order: %v, want %v", other, closed)
	}
	for i := range 8 {
		w.guard("greedy", fmt.Sprint("s", i), 1)
	}
	if closed, judged, _ := w.shut(); len(closed) != 0 || judged != judgedBefore+10 || w.reason(much[7]) == ReasonTooMany {
		t.Errorf("with less: closed %v, %d judged, %s", closed, judged, w.reason(much[7]))
	}
}

// All bounds of what one gateway is told together are within what is taken in one answer, 200 MiB, with room for the rest.
func TestBoundsOfAGatewayFitOneAnswer(t *testing.T) {
	if all := maxWaypointLoad + maxGatewayCAs + maxGuardLoad + 2*maxGatePolicies; all > 180<<20 {
		t.Errorf("%d MiB", all>>20)
	}
}
