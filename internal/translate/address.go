// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Ports that a node serves for a Service, unless the API server was told otherwise. A NodePort Service for a Gateway is asked to have those of the Gateway at the same number. If all
// of them are, it is reached at its nodes, with the Gateway's own ports.
const (
	lowestNodePort  = 30000
	highestNodePort = 32767
)

// maxStatusAddresses is Gateway API's own limit of status.addresses.
const maxStatusAddresses = 16

// NodePortOf is the port that nodes shall serve for a Gateway's port; 0: whichever is free.
func NodePortOf(port uint16) int32 {
	if port >= lowestNodePort && port <= highestNodePort {
		return int32(port)
	}
	return 0
}

// serviceKind is the type of the Service that leads to a Gateway: as it is, or as it will be.
func (x *index) serviceKind(g *world.Gateway) string {
	if s := x.state.Services[x.front(g)]; s != nil && s.Type != "" {
		return s.Type
	}
	return x.serviceType(g)
}

// serviceAddresses are where the Service that leads to a Gateway is reached: what the load balancer gave, the nodes on which the Gateway's
// pods take connections, or else its cluster IPs.
func (x *index) serviceAddresses(g *world.Gateway) []string { return x.addressesAt(g, x.front(g)) }

// addressesAt are where a Gateway would be reached if that Service led to it.
func (x *index) addressesAt(g *world.Gateway, service world.Key) []string {
	s := x.state.Services[service]
	if s == nil {
		return nil
	}
	var out []string
	add := func(a string) {
		if len(out) < maxStatusAddresses && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	switch {
	case s.Type == typeLoadBalancer || len(s.Ingress) > 0:
		for _, a := range s.Ingress {
			add(a)
		}
	case s.Type == typeNodePort && !slices.ContainsFunc(g.Listeners, func(l world.Listener) bool { return !slices.Contains(s.AtNodes, l.Port) }):
		for _, a := range x.nodeAddresses(s.Key) {
			add(a.String())
		}
	default:
		for _, a := range s.Addresses {
			add(a.String())
		}
	}
	return out
}

// allAddresses are the same as a status has them.
func (x *index) allAddresses(g *world.Gateway) []world.GatewayAddress {
	var out []world.GatewayAddress
	for _, a := range x.serviceAddresses(g) {
		out = append(out, world.GatewayAddress{Type: addressType(a), Value: a})
	}
	return out
}

// holding are the addresses of a Gateway, which would be these. A waypoint that had any never has none: connections would go past what may enforce a policy. They come to what its
// Service has, whatever was asked for. Of one without a Service the address may be somebody else's by now: it has the Service's name, by which nobody else is found.
func (x *index) holding(g *world.Gateway, addresses []world.GatewayAddress) []world.GatewayAddress {
	if len(addresses) > 0 || g.Class != ClassWaypoint || len(g.Status) == 0 {
		return addresses
	}
	if all := x.allAddresses(g); len(all) > 0 {
		return all
	}
	front := x.front(g)
	if front.Name == "" { // it names no Service that it could have
		return slices.Clone(g.Status)
	}
	return []world.GatewayAddress{{Type: addressHostname, Value: fmt.Sprintf("%s.%s.svc.%s", front.Name, front.Namespace, x.config.ClusterDomain)}}
}

// nodeAddresses are those of the nodes on which pods behind a Service take connections, sorted.
func (x *index) nodeAddresses(service world.Key) []netip.Addr {
	var out []netip.Addr
	for slice, ep := range x.lookedAt(service) {
		p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]
		if ep.Pod == "" || p == nil || !healthy(p) {
			continue
		}
		if n := x.state.Nodes[slice.In("", p.Node)]; n != nil {
			out = append(out, n.Addresses...)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
