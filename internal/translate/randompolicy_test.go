// SPDX-License-Identifier: Apache-2.0

package translate

import "github.com/isthmus-mesh/isthmus/internal/world"

// some gives up to three of a few values; mostly none, as fields of policies mostly are not there.
func (g generator) some(from ...string) []string {
	if g.chance(65) {
		return nil
	}
	var out []string
	for range 1 + g.IntN(3) {
		out = append(out, pick(g, from))
	}
	return out
}

// Values that fields of policies have, some of which nobody can read.
func (g generator) namespaces() []string { return g.some("demo", "shop", "de*", "*mo", "*") }

func (g generator) principals() []string {
	return g.some("cluster.local/ns/demo/sa/cart", "far.example/ns/*", "*/sa/cart", "*")
}

func (g generator) blocks() []string {
	return g.some("10.0.0.0/24", "10.1.0.7", "fd00::/64", "fd00::1", "10.0.0.0/33", "odd")
}

func (g generator) domains() []string { return g.some("cluster.local", "far.example", "cl*", "*local") }

func (g generator) ports() []string { return g.some("8080", "9090", "0", "70000", "odd") }

func (g generator) accounts() []string { return g.some("cart", "demo/cart", "shop/hello") }

func (g generator) source() world.PolicySource {
	return world.PolicySource{
		Principals: g.principals(), NotPrincipals: g.principals(), Namespaces: g.namespaces(), NotNamespaces: g.namespaces(),
		ServiceAccounts: g.accounts(), NotServiceAccounts: g.accounts(), IPBlocks: g.blocks(), NotIPBlocks: g.blocks(), TrustDomains: g.domains(), Foreign: g.chance(10),
	}
}

// operation asks something of requests in one of five.
func (g generator) operation() world.PolicyOperation {
	out := world.PolicyOperation{Ports: g.ports(), NotPorts: g.ports()}
	switch g.IntN(100) {
	case 0, 1, 2, 3:
		out.Hosts = []string{"a.example", "*.Example"}
	case 4, 5, 6, 7:
		out.Paths, out.NotMethods = []string{"/a*", "/{*}/b"}, []string{"GET"}
	case 8, 9, 10, 11:
		out.NotPaths = []string{"/{*}{x}"} // which is no template
	case 12, 13, 14, 15:
		out.Methods, out.NotHosts = []string{"GET"}, []string{"*"}
	case 16, 17, 18, 19:
		out.Paths = []string{"/a?b", "/c"} // the first of which is more than a path
	}
	return out
}

func (g generator) condition() world.PolicyCondition {
	out := world.PolicyCondition{Key: pick(g, []string{
		"source.ip", "source.namespace", "source.principal", "source.serviceAccount", "destination.ip", "destination.port", "request.headers[x]",
	})}
	values := g.namespaces
	switch out.Key {
	case "source.ip", "destination.ip":
		values = g.blocks
	case "source.principal":
		values = g.principals
	case "source.serviceAccount":
		values = g.accounts
	case "destination.port":
		values = g.ports
	}
	out.Values, out.NotValues = values(), values()
	return out
}

func (g generator) rule() world.PolicyRule {
	var out world.PolicyRule
	for range g.IntN(3) {
		out.From = append(out.From, g.source())
	}
	for range g.IntN(3) {
		out.To = append(out.To, g.operation())
	}
	for range g.IntN(3) {
		out.When = append(out.When, g.condition())
	}
	return out
}

func (g generator) policy() *world.AuthorizationPolicy {
	out := &world.AuthorizationPolicy{Key: g.key([]string{"p1", "p2"}), Action: pick(g, []string{"ALLOW", "DENY", "CUSTOM"}),
		HasTargets: g.chance(45), DryRun: g.chance(15), Generation: int64(g.IntN(3))}
	if out.HasTargets {
		for range 1 + g.IntN(2) {
			out.Targets = append(out.Targets, pick(g, []world.PolicyTarget{
				{Kind: "Service", Name: pick(g, someServices)}, {Kind: "Service", Name: pick(g, someServices)},
				{Group: "gateway.networking.k8s.io", Kind: "Gateway", Name: pick(g, []string{"gw", "gw2"})},
				{Group: "gateway.networking.k8s.io", Kind: "GatewayClass", Name: pick(g, []string{"eastwest", "waypoint", "nowhere"})}, {Group: "example.com", Kind: "Odd", Name: "x"},
			}))
		}
	}
	if g.chance(50) {
		out.Selector = map[string]string{"app": pick(g, someServices)}
		if g.chance(20) {
			out.Selector["private"] = "yes"
		}
		if g.chance(25) {
			out.Selector = map[string]string{LabelGatewayName: pick(g, []string{"gw", "gw2"})}
		}
	}
	for range g.IntN(4) {
		out.Rules = append(out.Rules, g.rule())
	}
	return out
}

func (g generator) peer() *world.PeerAuthentication {
	out := &world.PeerAuthentication{Key: g.key([]string{"pa1", "pa2"}), Created: int64(g.IntN(3)), Mode: pick(g, []string{"", modeUnset, modeStrict, modePermissive, "DISABLE"})}
	if g.chance(40) {
		out.Selector = map[string]string{"app": pick(g, someServices)}
	}
	if g.chance(30) { // without a selector they must count for nothing
		out.Ports = map[uint16]string{}
		for range 1 + g.IntN(2) {
			out.Ports[pick(g, []uint16{8080, 9090})] = pick(g, []string{modeUnset, modeStrict, modePermissive, "DISABLE"})
		}
		if g.chance(20) {
			out.OddPorts = []uint32{0}
		}
	}
	return out
}
