// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

func (g generator) gateway() *world.Gateway {
	out := &world.Gateway{
		Key: g.key([]string{"gw", "gw2"}), UID: "u", Generation: int64(g.IntN(3)), Created: int64(g.IntN(3)), Deleting: g.chance(5),
		Class:       pick(g, []string{"eastwest", "eastwest", "eastwest", "waypoint", "other", ClassIstioEastWest}),
		WaypointFor: pick(g, []string{"", "service", "workload", "all"}), InboundBinding: pick(g, someBindings),
		Network: pick(g, []string{"", "", "west", "east", "dmz"}), InfraLabels: pick(g, []map[string]string{nil, nil, {"app": "cart"}}), HasParameters: g.chance(5), ServiceType: pick(g, []string{"", "", "", typeClusterIP, "Odd"}),
		Parameters: pick(g, []string{"", "", "", "overlay"}),
	}
	if out.SetsFrom = pick(g, []string{"", "None", "Same", "All", "All", "All", "Selector"}); out.SetsFrom == "Selector" {
		out.SetNamespaces = &world.Selector{MatchLabels: map[string]string{"private": "yes"}}
	}
	for i := range 1 + g.IntN(2) {
		l := world.Listener{Name: fmt.Sprintf("l%d", i), Port: pick(g, append(somePorts, 15008, 30008)), Protocol: pick(g, []string{protocolHBONE, protocolHBONE, protocolHBONE, protocolHTTP, protocolHTTPS, protocolTLS, protocolTCP, protocolUDP, "SCTP"}),
			Hostname: pick(g, []string{"", "", "", "a.example.com", "*.example.com"}), HasTLS: g.chance(95), TLSMode: pick(g, []string{tlsTerminate, tlsTerminate, tlsTerminate, "Passthrough"})}
		if l.RoutesFrom = pick(g, []string{"", "All", "Selector"}); l.RoutesFrom == "Selector" {
			l.RouteNamespaces = &world.Selector{MatchLabels: map[string]string{"private": "yes"}}
		}
		if l.Protocol != protocolHBONE || g.chance(5) {
			l.Certificates, l.RouteKinds = g.certificates(), pick(g, [][]string{nil, nil, nil, {routeKind(world.KindHTTPRoute)}, {"x/Y"}})
		}
		if g.chance(10) {
			l.TLSOptions = map[string]string{optionTerminateMode: pick(g, []string{istioMutual, "ODD"})}
		}
		out.Listeners = append(out.Listeners, l)
	}
	for range g.IntN(3) {
		out.Status = append(out.Status, world.GatewayAddress{Type: pick(g, []string{addressIP, addressIP, addressHostname}), Value: g.doorAddress()})
	}
	if g.chance(20) {
		out.Addresses = append(out.Addresses, pick(g, []world.GatewayAddress{{Type: addressHostname, Value: "cart"}, {Type: addressHostname, Value: "gw2"}, {Type: addressHostname, Value: "a.example.com"}}))
	}
	if g.chance(20) {
		out.Addresses = append(out.Addresses, world.GatewayAddress{Type: pick(g, []string{addressIP, addressIP, addressIP, "example.com/odd"}), Value: fmt.Sprintf("203.0.113.%d", g.IntN(3))})
	}
	return out
}

// breakGateway has a Gateway of our own that was put before end no tunnels, or end them again, or not be there.
func (g generator) breakGateway(before []move) (move, bool) {
	var ours []move
	for _, m := range before {
		if m.put != nil && m.ref.Kind == world.KindGateway && m.ref.Cluster == testConfig.LocalCluster {
			ours = append(ours, m)
		}
	}
	if len(ours) == 0 {
		return move{}, false
	}
	m := pick(g, ours)
	o, _ := m.put.(*world.Gateway)
	now := *o
	now.Listeners = slices.Clone(o.Listeners)
	mode := pick(g, []string{tlsTerminate, tlsPassthrough, ""})
	for i := range now.Listeners {
		if now.Listeners[i].Protocol == protocolHBONE {
			now.Listeners[i].TLSMode = mode
		}
	}
	if m.put = &now; mode == "" {
		m.put = nil
	}
	return m, true
}

// doorAddress is now and then one that a pod or a service may have, or that none may have.
func (g generator) doorAddress() string {
	switch n := g.IntN(20); {
	case n < 3:
		return g.address().String()
	case n < 4:
		return "x.svc.cluster.local"
	}
	return fmt.Sprintf("203.0.113.%d", g.IntN(4))
}
