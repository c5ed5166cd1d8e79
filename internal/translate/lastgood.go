// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// portOfSets begins the names of ports that a Gateway's Service has for listeners of ListenerSets alone.
const portOfSets = "set-"

// SetPortName is the name of a Service's port that is for listeners of ListenerSets alone. Ports of the Gateway itself have none that IsSetPort says yes to.
func SetPortName(l mesh.Listener) string {
	if isUDP(l) { // a port may be for both
		return fmt.Sprintf("%sudp-%d", portOfSets, l.Port)
	}
	return fmt.Sprintf("%s%d", portOfSets, l.Port)
}

// IsSetPort says whether a name is one that SetPortName gives to a port, perhaps with an end that makes it unlike others.
func IsSetPort(name string) bool {
	number, ok := strings.CutPrefix(name, portOfSets)
	number = strings.TrimRight(strings.TrimPrefix(number, "udp-"), "x")
	_, err := strconv.ParseUint(number, 10, 16)
	return ok && err == nil
}

// lastListeners are those of a Gateway that is not accepted and was once: those that are valid still, and on ports that its Service has. If none of its own is, its
// last tunnels are there, before those of ListenerSets. A Gateway that is broken later thus keeps serving what it served, also after a restart of everything.
func (x *index) lastListeners(at *gate) []mesh.Listener {
	made := x.made(at.gateway.Key)
	if made == nil {
		return nil
	}
	valid, own := at.valid()
	listeners := x.meshListeners(at)
	has := func(l mesh.Listener) bool {
		ports := made.Ports
		if isUDP(l) {
			ports = made.UDPPorts
		}
		return slices.ContainsFunc(ports, func(p world.ServicePort) bool { return p.Port == l.Port })
	}
	var out []mesh.Listener
	for _, l := range listeners[:own] {
		if has(l) {
			out = append(out, l)
		}
	}
	if len(out) == 0 {
		out = x.lastTunnels(at.gateway)
	}
	ours := out
	for _, l := range listeners[own:valid] {
		taken := func(o mesh.Listener) bool {
			return o.Bind == l.Bind && !o.Protocol.Together(l.Protocol) && isUDP(o) == isUDP(l)
		}
		if has(l) && !slices.ContainsFunc(ours, taken) {
			out = append(out, l)
		}
	}
	return out
}

// lastTunnels are the listeners of a Gateway that was one for HBONE alone when it was accepted last, but for those of ListenerSets: its Service still has their ports. What
// the ports of a Gateway with other listeners were for cannot be known.
func (x *index) lastTunnels(g *world.Gateway) []mesh.Listener {
	made := x.made(g.Key)
	other := func(l world.Listener) bool { p := protocolOf(l); return p != 0 && p != mesh.ListenerHBONE }
	ownUDP := func(p world.ServicePort) bool { return !IsSetPort(p.Name) }
	if made == nil || g.Class != ClassWaypoint && !x.isWayIn(g) || slices.ContainsFunc(made.UDPPorts, ownUDP) || slices.ContainsFunc(g.Listeners, other) {
		return nil
	}
	var out []mesh.Listener
	for _, p := range made.Ports {
		if IsSetPort(p.Name) {
			continue
		}
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
