// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// judge has a policy with some long values judge what comes to the Gateways of a namespace.
func (w *guardedWorld) judge(namespace, name, action string, values int, change func(*world.AuthorizationPolicy)) *world.AuthorizationPolicy {
	p := &world.AuthorizationPolicy{Key: world.Key{Cluster: "east", Namespace: namespace, Name: name}, Action: action}
	var source world.PolicySource
	for i := range values {
		source.Namespaces = append(source.Namespaces, fmt.Sprint(strings.Repeat("x", 1000), i))
	}
	p.Rules = []world.PolicyRule{{From: []world.PolicySource{source}}}
	if change != nil {
		change(p)
	}
	d := world.NewDelta()
	d.Put(p)
	w.Apply(d)
	return p
}

// judged are the policies that a Gateway judges all by.
func (w *guardedWorld) judged(name string) (names []string, bytes int) {
	for k, g := range w.Output().Mesh.Gateways {
		if k.Name == name {
			for _, p := range g.Policies {
				names = append(names, p.Key())
				bytes += p.Size()
			}
		}
	}
	return names, bytes
}

// What judges all that comes to a Gateway is bounded: policies that are beyond say so, let nobody in, and take nothing from others, those of the whole mesh among them.
func TestPoliciesOfAGatewayAreBounded(t *testing.T) {
	const most = 64 << 10
	w := newGuardedWorld(t, maxGuardLoad, nil)
	w.x.gateLoads.most = most
	system := w.judge(testConfig.SystemNamespace, "mesh-wide", "DENY", 40, nil)
	small := w.judge("edge", "small", "DENY", 20, nil)
	allow := w.judge("edge", "allow", "ALLOW", 50, nil)
	dry := w.judge("edge", "dry", "DENY", 60, func(p *world.AuthorizationPolicy) { p.DryRun = true })
	said := func(p *world.AuthorizationPolicy) string {
		if f := w.Output().Findings[p.Ref()]; len(f) > 0 {
			return f[0].Reason
		}
		return ""
	}
	want := func(when string, want ...string) {
		t.Helper()
		for _, name := range []string{"ew", "ew2"} {
			if got, bytes := w.judged(name); !slices.Equal(got, want) || bytes > 2*most {
				t.Errorf("%s: %s is told of %v, %d bytes, want %v", when, name, got, bytes, want)
			}
		}
	}
	systemwide := testConfig.SystemNamespace + "/mesh-wide"
	want("one that allows is beyond", "edge/(too many that allow)", "edge/small", systemwide)
	for p, reason := range map[*world.AuthorizationPolicy]string{system: "", small: "", allow: ReasonTooMany, dry: ReasonTooMany} {
		if got := said(p); got != reason {
			t.Errorf("%s says %q, want %q", p.Key, got, reason)
		}
	}
	deny := w.judge("edge", "deny", "DENY", 70, func(p *world.AuthorizationPolicy) {
		p.HasTargets, p.Targets = true, []world.PolicyTarget{{Group: "gateway.networking.k8s.io", Kind: targetGateway, Name: "ew"}}
	})
	if got, _ := w.judged("ew"); !slices.Equal(got, []string{"edge/(too many that allow)", "edge/(too many that deny)", "edge/small", systemwide}) {
		t.Errorf("with one that denies: %v", got)
	}
	if got, _ := w.judged("ew2"); !slices.Equal(got, []string{"edge/(too many that allow)", "edge/small", systemwide}) {
		t.Errorf("that is not for it: %v", got)
	}
	for _, g := range w.Output().Mesh.Gateways {
		for _, p := range g.Policies {
			if open := p.Action == mesh.Allow && len(p.Rules) > 0; p.Name[0] == '(' && (open || p.Action == mesh.Deny && len(p.Rules) != 1) {
				t.Errorf("stands in as %+v", p)
			}
		}
	}
	if said(deny) != ReasonTooMany || said(small) != "" {
		t.Errorf("they say %q and %q", said(deny), said(small))
	}
	// What the engine came to is what a look at the whole gives.
	if f := w.Output().Findings[deny.Ref()]; !strings.Contains(f[0].Message, "Gateway edge/ew are more than") {
		t.Errorf("%+v", f)
	}
	// Less of it, and all is told.
	w.judge("edge", "deny", "DENY", 1, nil)
	w.judge("edge", "dry", "DENY", 1, nil)
	w.judge("edge", "allow", "ALLOW", 30, nil)
	want("when there is less", "edge/allow", "edge/deny", "edge/dry", "edge/small", systemwide)
	if said(allow) != "" || said(deny) != "" {
		t.Errorf("afterwards they say %q and %q", said(allow), said(deny))
	}
}
