// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	protocolHBONE = "HBONE"
	tlsTerminate  = string(gatewayv1.TLSModeTerminate)
	// optionTerminateMode says whose certificate an HBONE listener proves; only the mesh's own is served.
	optionTerminateMode = "gateway.istio.io/tls-terminate-mode"
	istioMutual         = "ISTIO_MUTUAL"

	addressIP       = string(gatewayv1.IPAddressType)
	addressHostname = string(gatewayv1.HostnameAddressType)

	typeLoadBalancer = "LoadBalancer"
	typeNodePort     = "NodePort"
	typeClusterIP    = "ClusterIP"
)

// Conditions of Gateways and listeners.
const (
	accepted     = string(gatewayv1.GatewayConditionAccepted)
	programmed   = string(gatewayv1.GatewayConditionProgrammed)
	resolvedRefs = string(gatewayv1.ListenerConditionResolvedRefs)
	conflicted   = string(gatewayv1.ListenerConditionConflicted)
)

// reservedPorts are the gateway process's own.
var reservedPorts = map[uint16]string{15000: "administration", 15020: "metrics", 15021: "readiness"}

// lowestBind is the first port that a process without privileges may listen on; lower ones are served from this much above.
const lowestBind, bindOffset = 1024, 20000

// gateways is all that follows from the local Gateways of our classes, but for what they export.
type gateways struct {
	findings  map[world.ObjectRef][]Finding
	plans     map[world.Key]*GatewayPlan
	addresses map[world.Key][]world.GatewayAddress
	configs   map[mesh.GatewayKey]*mesh.Gateway
}

// gateways looks at all local Gateways.
func (x *index) gateways() gateways {
	out := gateways{
		findings: map[world.ObjectRef][]Finding{}, plans: map[world.Key]*GatewayPlan{},
		addresses: map[world.Key][]world.GatewayAddress{}, configs: map[mesh.GatewayKey]*mesh.Gateway{},
	}
	var ours []*world.Gateway
	for k, g := range x.state.Gateways {
		c := x.state.GatewayClasses[k.In("", g.Class)]
		if k.Cluster == x.config.LocalCluster && !g.Deleting && c != nil && c.Controller == ControllerName {
			ours = append(ours, g)
		}
	}
	// The oldest first: it keeps an address that a younger one asks for too.
	slices.SortFunc(ours, func(a, b *world.Gateway) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), a.Key.Compare(b.Key))
	})
	taken := map[string]world.Key{}
	for _, g := range ours {
		x.gateway(g, taken, out)
	}
	return out
}

func (x *index) gateway(g *world.Gateway, taken map[string]world.Key, out gateways) {
	ref := g.Ref()
	add := func(listener, kind string, holds bool, reason, message string) {
		f := Finding{Listener: listener, Type: kind, Status: isFalse, Reason: reason, Message: shorten(message), Generation: g.Generation}
		if holds {
			f.Status = isTrue
		}
		out.findings[ref] = append(out.findings[ref], f)
	}
	out.addresses[g.Key] = nil
	network, _ := x.network(x.config.LocalCluster)
	refuse := func(reason gatewayv1.GatewayConditionReason, message string) {
		if listeners := x.lastListeners(g.Key); len(listeners) > 0 {
			message += "; what was accepted last keeps serving"
			out.configs[mesh.GatewayKey{Namespace: g.Namespace, Name: g.Name}] = &mesh.Gateway{
				Namespace: g.Namespace, Name: g.Name, Network: network, ServiceAccount: cmp.Or(g.ServiceAccount, g.Name),
				Listeners: listeners, TrustDomains: []string{x.config.TrustDomain},
			}
			for _, a := range x.state.Services[g.Key].Ingress {
				out.addresses[g.Key] = append(out.addresses[g.Key], world.GatewayAddress{Type: addressType(a), Value: a})
			}
		}
		add("", accepted, false, string(reason), message)
		add("", programmed, false, string(gatewayv1.GatewayReasonInvalid), "the Gateway is not accepted: "+message)
	}

	valid := 0
	verdicts := x.judgeListeners(g.Listeners)
	for _, v := range verdicts {
		if v.reason == "" {
			valid++
		}
	}
	problem := x.gatewayProblem(g)
	for _, v := range verdicts {
		v.report(add, problem == nil)
	}
	if problem != nil {
		refuse(problem.reason, problem.message)
		return
	}
	switch {
	case valid == 0:
		refuse(gatewayv1.GatewayReasonListenersNotValid, "no listener is valid; see the listeners' conditions")
		return
	case valid < len(verdicts):
		add("", accepted, true, string(gatewayv1.GatewayReasonListenersNotValid),
			fmt.Sprintf("%d of %d listeners are valid and served; see the listeners' conditions", valid, len(verdicts)))
	default:
		add("", accepted, true, string(gatewayv1.GatewayReasonAccepted), "the Gateway is served")
	}

	plan := &GatewayPlan{
		Key: g.Key, UID: g.UID, Class: g.Class, Network: cmp.Or(g.Network, network), ServiceAccount: cmp.Or(g.ServiceAccount, g.Name),
		ServiceType: cmp.Or(g.ServiceType, typeLoadBalancer), InfraLabels: g.InfraLabels, InfraAnnotations: g.InfraAnnotations,
	}
	for _, v := range verdicts {
		if v.reason == "" {
			plan.Listeners = append(plan.Listeners, mesh.Listener{
				Name: v.listener.Name, Port: v.listener.Port, Bind: bindOf(v.listener.Port), Protocol: mesh.ListenerHBONE,
			})
		}
	}
	addresses, failure := x.gatewayAddresses(g, plan, taken)
	out.plans[g.Key] = plan
	out.addresses[g.Key] = addresses
	out.configs[mesh.GatewayKey{Namespace: g.Namespace, Name: g.Name}] = &mesh.Gateway{
		Namespace: g.Namespace, Name: g.Name, Network: plan.Network, ServiceAccount: plan.ServiceAccount,
		Listeners: plan.Listeners, TrustDomains: []string{x.config.TrustDomain},
	}
	if failure != nil {
		add("", programmed, false, string(failure.reason), failure.message)
		return
	}
	add("", programmed, true, string(gatewayv1.GatewayReasonProgrammed), "the Gateway has an address")
}

// LabelGatewayName is on everything that is made for a Gateway (GEP-1762).
const LabelGatewayName = gatewayv1.GatewayNameLabelKey

// lastListeners are those of a Gateway that was accepted once: its Service still has their ports. A Gateway that is broken later
// thus keeps serving what it served, also after a restart of everything.
func (x *index) lastListeners(k world.Key) []mesh.Listener {
	s := x.state.Services[k]
	if s == nil || s.Labels[LabelGatewayName] != k.Name {
		return nil
	}
	var out []mesh.Listener
	for _, p := range s.Ports {
		bind := p.Target
		if bind == 0 {
			bind = bindOf(p.Port)
		}
		out = append(out, mesh.Listener{Name: p.Name, Port: p.Port, Bind: bind, Protocol: mesh.ListenerHBONE})
	}
	return out
}

func addressType(a string) string {
	if _, err := netip.ParseAddr(a); err == nil {
		return addressIP
	}
	return addressHostname
}

// bindOf is the port that the process listens on for a Gateway's port.
func bindOf(port uint16) uint16 {
	if port < lowestBind {
		return port + bindOffset
	}
	return port
}

type gatewayProblem struct {
	reason  gatewayv1.GatewayConditionReason
	message string
}

// ReasonWaypointsNotSupported goes with Accepted=False of Gateways of class waypoint.
const ReasonWaypointsNotSupported gatewayv1.GatewayConditionReason = "WaypointsNotSupported"

// gatewayProblem finds what makes a whole Gateway unacceptable.
func (x *index) gatewayProblem(g *world.Gateway) *gatewayProblem {
	if g.Class == ClassWaypoint {
		return &gatewayProblem{ReasonWaypointsNotSupported, "spec.gatewayClassName: waypoints are not served yet; use class eastwest for east-west gateways"}
	}
	if g.HasParameters {
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters, "spec.infrastructure.parametersRef: no kind of parameters is supported"}
	}
	if c := x.state.GatewayClasses[g.In("", g.Class)]; c.HasParameters {
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters, fmt.Sprintf("GatewayClass %s has spec.parametersRef, and no kind of parameters is supported", g.Class)}
	}
	switch g.ServiceType {
	case "", typeLoadBalancer, typeNodePort, typeClusterIP:
	default:
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters,
			fmt.Sprintf("annotation %s: %q is none of LoadBalancer, NodePort, ClusterIP", world.AnnotationServiceType, g.ServiceType)}
	}
	own, _ := x.network(x.config.LocalCluster)
	if g.Network != "" && own != "" && g.Network != own {
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters,
			fmt.Sprintf("label %s is %q, but this cluster's pods are on network %q: a gateway leads to its own cluster's network only", world.LabelNetwork, g.Network, own)}
	}
	for i, a := range g.Addresses {
		if a.Type != addressIP {
			return &gatewayProblem{gatewayv1.GatewayReasonUnsupportedAddress,
				fmt.Sprintf("spec.addresses[%d].type: %q is not supported, only IPAddress is", i, a.Type)}
		}
		if a.Value == "" {
			continue
		}
		if _, err := netip.ParseAddr(a.Value); err != nil {
			return &gatewayProblem{gatewayv1.GatewayReasonUnsupportedAddress, fmt.Sprintf("spec.addresses[%d].value: %q is not an IP address", i, a.Value)}
		}
	}
	return nil
}

// gatewayAddresses are those that the Gateway has, and why it has none that will do. It settles what the plan asks for.
func (x *index) gatewayAddresses(g *world.Gateway, plan *GatewayPlan, taken map[string]world.Key) ([]world.GatewayAddress, *gatewayProblem) {
	s := x.state.Services[g.Key]
	var has []string
	if s != nil {
		has = s.Ingress
		if plan.ServiceType != typeLoadBalancer {
			has = nil
			for _, a := range s.Addresses {
				has = append(has, a.String())
			}
		}
	}
	var wanted []string
	for _, a := range g.Addresses {
		if a.Value != "" && !slices.Contains(wanted, a.Value) {
			wanted = append(wanted, a.Value)
		}
	}
	for _, a := range wanted {
		if owner, ok := taken[a]; ok {
			return nil, &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("address %s is in use by Gateway %s/%s", a, owner.Namespace, owner.Name)}
		}
		if !slices.Contains(has, a) {
			for owner := range x.ingress[a] {
				if owner != g.Key {
					return nil, &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("address %s is in use by Service %s", a, x.firstOwner(a, g.Key))}
				}
			}
		}
	}
	for _, a := range wanted {
		taken[a] = g.Key
	}
	plan.Addresses = wanted
	addresses := make([]world.GatewayAddress, 0, len(has))
	for _, a := range has {
		if len(wanted) > 0 && !slices.Contains(wanted, a) {
			continue // not what was asked for
		}
		kind := addressType(a)
		if kind == addressIP {
			if owner, ok := taken[a]; !ok {
				taken[a] = g.Key
			} else if owner != g.Key {
				continue
			}
		}
		addresses = append(addresses, world.GatewayAddress{Type: kind, Value: a})
	}
	for _, a := range wanted {
		if !slices.ContainsFunc(addresses, func(has world.GatewayAddress) bool { return has.Value == a }) {
			return addresses, &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable,
				fmt.Sprintf("address %s was asked for, and the %s Service %s/%s does not have it", a, plan.ServiceType, g.Namespace, g.Name)}
		}
	}
	if len(addresses) == 0 {
		return nil, &gatewayProblem{gatewayv1.GatewayReasonAddressNotAssigned,
			fmt.Sprintf("the %s Service %s/%s has no address yet", plan.ServiceType, g.Namespace, g.Name)}
	}
	return addresses, nil
}

// firstOwner names the first other Service that has a load balancer's address.
func (x *index) firstOwner(address string, not world.Key) string {
	for _, k := range slices.SortedFunc(maps.Keys(x.ingress[address]), world.Key.Compare) {
		if k != not {
			return k.Namespace + "/" + k.Name
		}
	}
	return ""
}

// listenerVerdict is what is wrong with a listener, if anything.
type listenerVerdict struct {
	listener world.Listener
	reason   gatewayv1.ListenerConditionReason // of Accepted=False; empty: accepted
	message  string
	conflict gatewayv1.ListenerConditionReason // of Conflicted=True; empty: none
	refs     string                            // why ResolvedRefs=False
}

func (x *index) judgeListeners(listeners []world.Listener) []listenerVerdict {
	out := make([]listenerVerdict, len(listeners))
	for i, l := range listeners {
		out[i] = listenerVerdict{listener: l}
		for j, other := range listeners {
			if i == j || !clash(l, other) {
				continue
			}
			out[i].reason, out[i].conflict = gatewayv1.ListenerReasonProtocolConflict, gatewayv1.ListenerReasonProtocolConflict
			if l.Protocol == other.Protocol {
				out[i].reason, out[i].conflict = gatewayv1.ListenerReasonHostnameConflict, gatewayv1.ListenerReasonHostnameConflict
			}
			out[i].message = fmt.Sprintf("port %d: listener %s (%s) clashes with listener %s (%s)", l.Port, l.Name, l.Protocol, other.Name, other.Protocol)
			break
		}
		if out[i].reason == "" {
			out[i].reason, out[i].message = judgeListener(l, listeners)
		}
		if len(l.RouteKinds) > 0 && l.Protocol == protocolHBONE {
			out[i].refs = "allowedRoutes.kinds: no route attaches to an HBONE listener, but it names " + strings.Join(l.RouteKinds, ", ")
		}
	}
	return out
}

// clash says whether two listeners cannot share a port.
func clash(a, b world.Listener) bool {
	if a.Port != b.Port || (a.Protocol == "UDP") != (b.Protocol == "UDP") {
		return false
	}
	if a.Protocol != b.Protocol {
		overTLS := func(l world.Listener) bool { return l.Protocol == "HTTPS" || l.Protocol == "TLS" }
		return !overTLS(a) || !overTLS(b)
	}
	return a.Hostname == b.Hostname
}

func judgeListener(l world.Listener, all []world.Listener) (gatewayv1.ListenerConditionReason, string) {
	if l.Protocol != protocolHBONE {
		return gatewayv1.ListenerReasonUnsupportedProtocol, fmt.Sprintf("protocol %q is not supported, only HBONE is", l.Protocol)
	}
	if purpose, ok := reservedPorts[l.Port]; ok {
		return gatewayv1.ListenerReasonPortUnavailable, fmt.Sprintf("port %d is the gateway's own, for %s", l.Port, purpose)
	}
	if b := bindOf(l.Port); b != l.Port && slices.ContainsFunc(all, func(o world.Listener) bool { return o.Port == b }) {
		return gatewayv1.ListenerReasonPortUnavailable, fmt.Sprintf("port %d is served from port %d, which another listener has", l.Port, b)
	}
	unsupported := gatewayv1.ListenerReasonUnsupportedValue
	if l.Hostname != "" {
		return unsupported, fmt.Sprintf("hostname %q: an HBONE listener serves all exported services and takes no hostname", l.Hostname)
	}
	if !l.HasTLS || l.TLSMode != tlsTerminate {
		return unsupported, fmt.Sprintf("tls.mode: an HBONE listener needs Terminate, not %q", l.TLSMode)
	}
	if l.CertificateRefs > 0 {
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

func (v listenerVerdict) report(add func(listener, kind string, holds bool, reason, message string), gatewayAccepted bool) {
	name := v.listener.Name
	ok := v.reason == ""
	if ok {
		add(name, accepted, true, string(gatewayv1.ListenerReasonAccepted), "the listener is served")
	} else {
		add(name, accepted, false, string(v.reason), v.message)
	}
	switch {
	case ok && gatewayAccepted:
		add(name, programmed, true, string(gatewayv1.ListenerReasonProgrammed), "the gateway is configured with the listener")
	case ok:
		add(name, programmed, false, string(gatewayv1.ListenerReasonPending), "the Gateway is not accepted")
	default:
		add(name, programmed, false, string(gatewayv1.ListenerReasonInvalid), v.message)
	}
	if v.refs == "" {
		add(name, resolvedRefs, true, string(gatewayv1.ListenerReasonResolvedRefs), "the listener refers to nothing that is missing")
	} else {
		add(name, resolvedRefs, false, string(gatewayv1.ListenerReasonInvalidRouteKinds), v.refs)
	}
	if v.conflict == "" {
		add(name, conflicted, false, string(gatewayv1.ListenerReasonNoConflicts), "no listener clashes with this one")
	} else {
		add(name, conflicted, true, string(v.conflict), v.message)
	}
}
