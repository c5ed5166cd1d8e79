// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// lastListeners are those of a Gateway that is not accepted and was once: those that are valid still, and on ports that its Service has.
// A Gateway that is broken later thus keeps serving what it served, also after a restart of everything.
func (x *index) lastListeners(at *gate) []mesh.Listener {
	var out []mesh.Listener
	made := x.made(at.gateway.Key)
	if made == nil {
		return nil
	}
	for _, l := range x.meshListeners(at) {
		ports := made.Ports
		if isUDP(l) {
			ports = made.UDPPorts
		}
		if slices.ContainsFunc(ports, func(p world.ServicePort) bool { return p.Port == l.Port }) {
			out = append(out, l)
		}
	}
	if len(out) > 0 {
		return out
	}
	if len(at.verdicts) > len(at.gateway.Listeners) {
		return nil // ports may be those of sets
	}
	return lastTunnels(at.gateway, made)
}

// lastTunnels are the listeners of a Gateway that was one for HBONE alone when it was accepted last: its Service still has their ports. What
// the ports of a Gateway with other listeners were for cannot be known.
func lastTunnels(g *world.Gateway, made *world.Service) []mesh.Listener {
	other := func(l world.Listener) bool { p := protocolOf(l); return p != 0 && p != mesh.ListenerHBONE }
	if made == nil || len(made.UDPPorts) > 0 || slices.ContainsFunc(g.Listeners, other) {
		return nil
	}
	var out []mesh.Listener
	for _, p := range made.Ports {
		bind := p.Target
		if bind == 0 {
			bind = bindOf(p.Port)
		}
		out = append(out, mesh.Listener{Name: p.Name, Port: p.Port, Bind: bind, Protocol: servedAs(g, world.Listener{Protocol: protocolHBONE})})
	}
	return out
}

// made is the Service that was made for a Gateway; nil: there is none.
func (x *index) made(k world.Key) *world.Service {
	name := ResourceName(k.Name)
	if s := x.state.Services[k.In(k.Namespace, name)]; s != nil && s.Labels[LabelGatewayName] == name {
		return s
	}
	return nil
}
