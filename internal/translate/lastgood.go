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
	for _, p := range x.madePorts(at.gateway.Key) {
		for _, l := range x.meshListeners(at) {
			if l.Port == p.Port {
				out = append(out, l)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	return x.lastTunnels(at.gateway)
}

// lastTunnels are the listeners of a Gateway that was one for HBONE alone when it was accepted last: its Service still has their ports. What
// the ports of a Gateway with other listeners were for cannot be known.
func (x *index) lastTunnels(g *world.Gateway) []mesh.Listener {
	if slices.ContainsFunc(g.Listeners, func(l world.Listener) bool { return servedProtocols[l.Protocol].HTTP() }) {
		return nil
	}
	var out []mesh.Listener
	for _, p := range x.madePorts(g.Key) {
		bind := p.Target
		if bind == 0 {
			bind = bindOf(p.Port)
		}
		out = append(out, mesh.Listener{Name: p.Name, Port: p.Port, Bind: bind, Protocol: mesh.ListenerHBONE})
	}
	return out
}

// madePorts are those of the Service that was made for a Gateway.
func (x *index) madePorts(k world.Key) []world.ServicePort {
	name := ResourceName(k.Name)
	if s := x.state.Services[k.In(k.Namespace, name)]; s != nil && s.Labels[LabelGatewayName] == name {
		return s.Ports
	}
	return nil
}
