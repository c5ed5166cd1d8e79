// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Whoever has too many CAs pays for it, the youngest policies first, and nobody else does, whatever their names.
func TestBoundCAs(t *testing.T) {
	const most = 10 << 10
	policy := func(namespace, name string, created int64) *world.BackendTLSPolicy {
		return &world.BackendTLSPolicy{Key: world.Key{Cluster: "east", Namespace: namespace, Name: name}, Created: created}
	}
	var all []tlsInForce
	add := func(p *world.BackendTLSPolicy, ports, bytes int) {
		for port := range ports {
			all = append(all, tlsInForce{mesh.BackendTLS{Service: mesh.ServiceKey{Namespace: p.Namespace, Hostname: p.Name}, Port: uint16(port + 1), ServerName: "a.example.com", CAs: strings.Repeat("c", bytes)}, p})
		}
	}
	old, young, modest := policy("a-greedy", "z-old", 1), policy("a-greedy", "a-young", 2), policy("z-modest", "late", 3)
	add(young, 50, 1<<10)
	add(old, 4, 1<<10)
	add(modest, 3, 1<<10)
	all = append(all, tlsInForce{mesh.BackendTLS{Service: mesh.ServiceKey{Namespace: "a-greedy"}, System: true}, young})
	crowded := boundCAs(all, most)
	sum, closed := 0, map[string]int{}
	for _, of := range all {
		sum += len(of.CAs)
		if of.Problem != "" {
			closed[of.by.Name]++
			if of.CAs != "" || of.System || of.ServerName != "" {
				t.Errorf("%s, port %d has a problem, and settings", of.by.Name, of.Port)
			}
		}
	}
	if sum != most || len(closed) != 1 || closed["a-young"] != 47 || !all[len(all)-1].System || len(crowded) != 1 || !crowded.has(young.Key) {
		t.Errorf("%d bytes, closed %v, the last one is %+v, at fault are %v", sum, closed, all[len(all)-1], crowded)
	}
	all = all[:0]
	add(old, 5, 1<<10)
	add(modest, 5, 1<<10)
	if crowded := boundCAs(all, most); len(crowded) != 0 || all[9].Problem != "" {
		t.Errorf("of what fits: %v", crowded)
	}
}

// A policy of which a Gateway is not told all CAs says so there, and one without any is in force.
func TestPoliciesWithTooManyCAs(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/backend-tls.txtar")
	if err != nil {
		t.Fatal(err)
	}
	reasons := func(most int) (reasons map[string]map[string]int, closed int) {
		e := NewEngine(testConfig)
		e.x.maxCAs = most
		d := world.NewDelta()
		for _, o := range read(t, archive) {
			d.Put(o)
		}
		e.Apply(d)
		out := e.Output()
		reasons = map[string]map[string]int{}
		for ref, all := range out.Findings {
			for _, f := range all {
				if ref.Kind == world.KindBackendTLSPolicy && f.Type == policyAccepted {
					if reasons[ref.Name] == nil {
						reasons[ref.Name] = map[string]int{}
					}
					reasons[ref.Name][f.Reason]++
				}
			}
		}
		for _, g := range out.Mesh.Gateways {
			for _, b := range g.BackendTLS {
				if strings.Contains(b.Problem, "more than its share") {
					closed++
				}
			}
		}
		return reasons, closed
	}
	before, none := reasons(maxGatewayCAs)
	after, closed := reasons(1)
	accepted, crowded, kept := 0, 0, 0
	for name, of := range before {
		if n := of["Accepted"]; n > 0 {
			accepted += n
			crowded += after[name][ReasonTooMany]
			kept += after[name]["Accepted"]
		}
	}
	if none != 0 || accepted == 0 || crowded == 0 || kept == 0 || crowded+kept != accepted || closed < crowded {
		t.Errorf("%d are accepted; with little room %d are not, %d are, and %d ports are closed: %v", accepted, crowded, kept, closed, after)
	}
}
