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

// protocolPROXY is that of a listener that takes the PROXY protocol from the node proxy.
const protocolPROXY = "istio.io/PROXY"

// binding is how a Gateway's pods take what is sent to it as a waypoint, if not by HBONE themselves: "<protocol>" or "<protocol>/<port>", in an annotation of the
// Gateway or else of its class. nil: by HBONE. What cannot be read counts as if it were not there, and problem says why.
func (x *index) binding(g *world.Gateway) (tunnel *mesh.AppTunnel, problem string) {
	if g.Cluster == x.config.LocalCluster && x.ourClass(g.Class) {
		if g.InboundBinding != "" {
			problem = fmt.Sprintf("annotation %s of Gateway %s/%s is ignored: Gateways of class %s end tunnels themselves", world.AnnotationInboundBinding, g.Namespace, g.Name, g.Class)
		}
		return nil, problem
	}
	text, of := g.InboundBinding, "Gateway "+g.Namespace+"/"+g.Name
	if text == "" {
		class := x.state.GatewayClasses[g.In("", g.Class)]
		if class == nil || class.InboundBinding == "" {
			return nil, ""
		}
		text, of = class.InboundBinding, "GatewayClass "+class.Name
	}
	protocol, port, ported := strings.Cut(text, "/")
	number, err := uint64(0), error(nil)
	if ported {
		number, err = strconv.ParseUint(port, 10, 16)
	}
	if protocol != "NONE" && protocol != "PROXY" || err != nil || ported && number == 0 {
		return nil, fmt.Sprintf("annotation %s of %s: %q is neither NONE nor PROXY, with or without /port, and is ignored", world.AnnotationInboundBinding, of, text)
	}
	return &mesh.AppTunnel{Port: uint16(number), Proxy: protocol == "PROXY"}, ""
}

// appTunnel is how a pod of our own cluster takes what comes in tunnels, if it is a Gateway's.
func (x *index) appTunnel(p *world.Pod) *mesh.AppTunnel {
	g := x.state.Gateways[gatewayOf(p)]
	if g == nil {
		return nil
	}
	tunnel, _ := x.binding(g)
	return tunnel
}

// gatewayOf is the Gateway that a pod was made for, as its label says; zero: none.
func gatewayOf(p *world.Pod) world.Key {
	if p == nil || p.Labels[LabelGatewayName] == "" {
		return world.Key{}
	}
	return p.In(p.Namespace, p.Labels[LabelGatewayName])
}

// foldGatewayPod notes whose pod it is, so that a Gateway's change finds it again.
func (x *index) foldGatewayPod(k world.Key, was, now *world.Pod) {
	before, after := gatewayOf(was), gatewayOf(now)
	if before == after {
		return
	}
	if before != (world.Key{}) {
		x.madePods.remove(before, k)
	}
	if after != (world.Key{}) {
		x.madePods.add(after, k)
	}
}

// classOf notes all that the annotation of a class may bind.
func (t *touched) classOf(x *index, class world.Key) {
	for k := range x.gatesIn[class.Cluster] {
		if x.state.Gateways[k].Class == class.Name {
			t.waypointOf(x, k)
		}
	}
}

// waypointListener is the one that says where a waypoint takes connections, and from which namespaces: by HBONE, or else the one that its binding is for, or else
// the first; nil: it is no waypoint. Of ours only those of class waypoint are.
func (x *index) waypointListener(g *world.Gateway, bound *mesh.AppTunnel) *world.Listener {
	if g.Class != ClassWaypoint && g.Cluster == x.config.LocalCluster && x.ourClass(g.Class) {
		return nil
	}
	find := func(fits func(l world.Listener) bool) *world.Listener {
		if i := slices.IndexFunc(g.Listeners, fits); i >= 0 {
			return &g.Listeners[i]
		}
		return nil
	}
	if l := find(func(l world.Listener) bool { return l.Protocol == protocolHBONE && l.Port != 0 }); l != nil {
		if bound != nil || g.Class == ClassWaypoint || g.Class == classIstioWaypoint {
			return l
		}
		return nil
	}
	if bound == nil {
		return nil
	}
	l := find(func(l world.Listener) bool {
		return l.Protocol == protocolPROXY && bound.Proxy && (bound.Port == 0 || bound.Port == l.Port)
	})
	if l == nil {
		l = find(func(world.Listener) bool { return true })
	}
	return l
}
