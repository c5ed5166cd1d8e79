// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// listenerVerdict is what is wrong with a listener, if anything.
type listenerVerdict struct {
	listener world.Listener
	set      *world.ListenerSet                // that it is of; nil: the Gateway itself
	reason   gatewayv1.ListenerConditionReason // of Accepted=False; empty: accepted
	message  string
	conflict gatewayv1.ListenerConditionReason // of Conflicted=True; empty: none
	overlaps string                            // with what, see noteOverlaps; empty: with nothing
	refs     trouble                           // why ResolvedRefs=False

	certificates []mesh.Certificate
	clients      *mesh.ClientValidation // nil: they prove nothing
	unproved     bool                   // none of the certificates that it needs can be had
	unread       bool                   // it is unproved, and only as one of them was not read yet
	kinds        []string               // of routes that may attach
	attached     int
}

// servedProtocols are those of listeners that are served.
var servedProtocols = map[string]mesh.ListenerProtocol{
	protocolHBONE: mesh.ListenerHBONE, protocolHTTP: mesh.ListenerHTTP, protocolHTTPS: mesh.ListenerHTTPS, protocolTLS: mesh.ListenerTLS,
	protocolTCP: mesh.ListenerTCP, protocolUDP: mesh.ListenerUDP,
}

// protocolOf is what a listener speaks, 0 for what is not served.
func protocolOf(l world.Listener) mesh.ListenerProtocol {
	p := servedProtocols[l.Protocol]
	if p == mesh.ListenerTLS && l.TLSMode == tlsTerminate {
		return mesh.ListenerTLSTerminate
	}
	return p
}

// servedAs is what the process does with a listener of a Gateway.
func servedAs(g *world.Gateway, l world.Listener) mesh.ListenerProtocol {
	if g.Class == ClassWaypoint && l.Protocol == protocolHBONE {
		return mesh.ListenerWaypoint
	}
	return protocolOf(l)
}

// judgeListeners looks at a Gateway's listeners, its own first and then those of ListenerSets. What they may refer to is noted as wanted.
func (x *index) judgeListeners(g *world.Gateway, in []*world.ListenerSet, wanted set[world.ObjectRef]) []listenerVerdict {
	listeners := g.Listeners
	out := make([]listenerVerdict, len(listeners))
	at := make(map[uint16][]int, len(listeners)) // port → those there: no others clash
	for i := range listeners {
		at[listeners[i].Port] = append(at[listeners[i].Port], i)
	}
	for i, l := range listeners {
		out[i] = listenerVerdict{listener: l}
		for _, j := range at[l.Port] {
			other := listeners[j]
			if i == j || !clash(l, other) {
				continue
			}
			out[i].reason, out[i].conflict = gatewayv1.ListenerReasonProtocolConflict, gatewayv1.ListenerReasonProtocolConflict
			if together(l, other) {
				out[i].reason, out[i].conflict = gatewayv1.ListenerReasonHostnameConflict, gatewayv1.ListenerReasonHostnameConflict
			}
			out[i].message = fmt.Sprintf("port %d: listener %s (%s) clashes with listener %s (%s)", l.Port, l.Name, l.Protocol, other.Name, other.Protocol)
			break
		}
		if out[i].reason == "" {
			out[i].reason, out[i].message = x.judgeListener(g, l, i)
		}
		if out[i].reason == "" && l.Protocol == protocolHBONE {
			out[i].reason, out[i].message = x.judgeWayIn(g)
		}
		out[i].prove(x, g.Ref(), g, wanted)
		out[i].judgeKinds()
	}
	out = x.judgeSets(g, in, out, wanted)
	noteOverlaps(g, out)
	return out
}

// clash says whether two listeners cannot share a port.
func clash(a, b world.Listener) bool {
	if a.Port != b.Port || !sameTransport(a, b) {
		return false
	}
	return !together(a, b) || a.Hostname == b.Hostname
}

// together says whether the protocols of two listeners may share a port.
func together(a, b world.Listener) bool {
	p := servedProtocols[a.Protocol]
	return a.Protocol == b.Protocol || p != 0 && p.Together(servedProtocols[b.Protocol])
}

// judgeListener looks at a listener alone, and at where it is served. before is how many of the Gateway's own listeners come before it in a conflict about that: whose port it is comes first
// in any case.
func (x *index) judgeListener(g *world.Gateway, l world.Listener, before int) (gatewayv1.ListenerConditionReason, string) {
	if g.Class == ClassWaypoint && l.Protocol != protocolHBONE {
		return gatewayv1.ListenerReasonUnsupportedProtocol, fmt.Sprintf("protocol %q is not supported, a waypoint takes HBONE only", l.Protocol)
	}
	if servedProtocols[l.Protocol] == 0 {
		return gatewayv1.ListenerReasonUnsupportedProtocol, fmt.Sprintf("protocol %q is not supported, only HBONE, HTTP, HTTPS, TLS, TCP and UDP are", l.Protocol)
	}
	at := x.bindFor(g, l)
	if purpose, ok := reservedPorts[at.port]; ok && !at.udp {
		message := fmt.Sprintf("port %d is the gateway's own, for %s", at.port, purpose)
		if at.port != l.Port {
			message = fmt.Sprintf("port %d is served from port %d: %s", l.Port, at.port, message)
		}
		return gatewayv1.ListenerReasonPortUnavailable, message
	}
	for i, o := range g.Listeners {
		if at.port != l.Port && o.Port != l.Port && (i < before || o.Port == at.port) && x.bindFor(g, o) == at {
			return gatewayv1.ListenerReasonPortUnavailable, fmt.Sprintf("port %d is served from port %d, which another listener has", l.Port, at.port)
		}
	}
	unsupported := gatewayv1.ListenerReasonUnsupportedValue
	switch {
	case l.HasFilters:
		return unsupported, "filters: none is served, and without them the listener would let in what they are to keep out"
	case l.Protocol == protocolHTTP:
		return "", ""
	case (l.Protocol == protocolTCP || l.Protocol == protocolUDP) && l.Hostname != "":
		return unsupported, fmt.Sprintf("hostname %q: a listener for %s knows none", l.Hostname, l.Protocol)
	case l.Protocol == protocolTCP || l.Protocol == protocolUDP:
		return "", ""
	case l.Protocol == protocolHTTPS && l.TLSMode != tlsTerminate:
		return unsupported, fmt.Sprintf("tls.mode: an HTTPS listener needs Terminate, not %q", l.TLSMode)
	case l.Protocol == protocolHTTPS && len(l.Certificates) == 0:
		return unsupported, "tls.certificateRefs: an HTTPS listener needs a certificate"
	case l.Protocol == protocolTLS && l.TLSMode == tlsTerminate && len(l.Certificates) == 0:
		return unsupported, "tls.certificateRefs: a listener that ends TLS needs a certificate"
	case l.Protocol == protocolTLS && l.TLSMode != tlsTerminate && l.TLSMode != tlsPassthrough:
		return unsupported, fmt.Sprintf("tls.mode: a listener for TLS needs Passthrough or Terminate, not %q", l.TLSMode)
	case l.Protocol == protocolHTTPS && len(l.TLSOptions) > 0:
		return unsupported, fmt.Sprintf("tls.options: %q is unknown at a listener for HTTPS; how its clients prove themselves is for the Gateway's tls.frontend to say", firstOption(l))
	case l.Protocol == protocolTLS && len(l.TLSOptions) > 0:
		return unsupported, fmt.Sprintf("tls.options: %q is unknown at a listener for TLS", firstOption(l))
	case l.Protocol == protocolHTTPS || l.Protocol == protocolTLS:
		return "", "" // certificates that one names which passes TLS on are to be ignored
	}
	return judgeHBONE(l, g.Class == ClassWaypoint)
}

// keepsOut says whether a listener asks for something that may be to keep somebody out and is not served.
func keepsOut(l world.Listener) bool {
	return l.HasFilters || len(l.TLSOptions) > 0 && l.Protocol != protocolHBONE
}

// firstOption is the name of one of the options of a listener's TLS, which has any.
func firstOption(l world.Listener) string { return slices.Min(slices.Collect(maps.Keys(l.TLSOptions))) }

// judgeHBONE looks at what an HBONE listener has of its own. A waypoint's needs not say that it ends TLS.
func judgeHBONE(l world.Listener, waypoint bool) (gatewayv1.ListenerConditionReason, string) {
	unsupported := gatewayv1.ListenerReasonUnsupportedValue
	if l.Hostname != "" {
		return unsupported, fmt.Sprintf("hostname %q: an HBONE listener serves all services that the gateway is for and takes no hostname", l.Hostname)
	}
	if (l.HasTLS || !waypoint) && l.TLSMode != tlsTerminate {
		return unsupported, fmt.Sprintf("tls.mode: an HBONE listener needs Terminate, not %q", l.TLSMode)
	}
	if len(l.Certificates) > 0 {
		return unsupported, "tls.certificateRefs: an HBONE listener proves its mesh identity and takes no certificate"
	}
	for _, k := range slices.Sorted(maps.Keys(l.TLSOptions)) {
		if k != optionTerminateMode {
			return unsupported, fmt.Sprintf("tls.options: %q is unknown, only %s is known", k, optionTerminateMode)
		}
		if v := l.TLSOptions[k]; v != istioMutual {
			return unsupported, fmt.Sprintf("tls.options[%s]: %q is unknown, only %s is served", k, v, istioMutual)
		}
	}
	return "", ""
}

// judgeKinds settles which kinds of routes may attach.
func (v *listenerVerdict) judgeKinds() {
	var can []string
	switch p := servedProtocols[v.listener.Protocol]; {
	case p.HTTP():
		can = []string{routeKind(world.KindHTTPRoute), routeKind(world.KindGRPCRoute)}
	case p == mesh.ListenerTLS && (v.listener.TLSMode == tlsPassthrough || v.listener.TLSMode == tlsTerminate):
		can = []string{routeKind(world.KindTLSRoute)}
	case p == mesh.ListenerTCP:
		can = []string{routeKind(world.KindTCPRoute)}
	case p == mesh.ListenerUDP:
		can = []string{routeKind(world.KindUDPRoute)}
	}
	if len(v.listener.RouteKinds) == 0 {
		v.kinds = can
		return
	}
	var cannot []string
	for _, k := range v.listener.RouteKinds {
		switch {
		case !slices.Contains(can, k):
			cannot = append(cannot, k)
		case !slices.Contains(v.kinds, k):
			v.kinds = append(v.kinds, k)
		}
	}
	if len(cannot) > 0 {
		v.refs.add(string(gatewayv1.ListenerReasonInvalidRouteKinds), "allowedRoutes.kinds: routes of %s do not attach to a listener for %s", strings.Join(cannot, ", "), v.listener.Protocol)
	}
}

func (v listenerVerdict) report(add func(listener, kind string, holds bool, reason, message string), gatewayAccepted bool) {
	name := v.listener.Name
	ok := v.reason == ""
	if ok {
		add(name, accepted, true, string(gatewayv1.ListenerReasonAccepted), "the listener is served")
	} else {
		add(name, accepted, false, string(v.reason), v.message)
	}
	switch {
	case ok && v.unproved:
		add(name, programmed, false, string(gatewayv1.ListenerReasonInvalid), v.refs.message)
	case ok && gatewayAccepted:
		add(name, programmed, true, string(gatewayv1.ListenerReasonProgrammed), "the gateway is configured with the listener")
	case ok:
		add(name, programmed, false, string(gatewayv1.ListenerReasonPending), "the Gateway is not accepted")
	default:
		reason := gatewayv1.ListenerReasonInvalid
		if v.set != nil { // of a set the API names the conflict here, too
			reason = cmp.Or(v.conflict, reason)
		}
		add(name, programmed, false, string(reason), v.message)
	}
	switch {
	case v.refs.reason == "" && v.set != nil && !ok && v.needsProof(): // nobody looked
	case v.refs.reason == "":
		add(name, resolvedRefs, true, string(gatewayv1.ListenerReasonResolvedRefs), "the listener refers to nothing that is missing")
	default:
		add(name, resolvedRefs, false, v.refs.reason, v.refs.message)
	}
	if v.conflict == "" {
		add(name, conflicted, false, string(gatewayv1.ListenerReasonNoConflicts), "no listener clashes with this one")
	} else {
		add(name, conflicted, true, string(v.conflict), v.message)
	}
	if v.overlaps != "" { // the API wants it said only while it is so
		add(name, overlapping, true, string(gatewayv1.ListenerReasonOverlappingHostnames), v.overlaps)
	}
}
