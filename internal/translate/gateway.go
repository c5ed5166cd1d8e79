// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	protocolHBONE = "HBONE"
	protocolHTTP  = string(gatewayv1.HTTPProtocolType)
	protocolHTTPS = string(gatewayv1.HTTPSProtocolType)
	protocolTLS   = string(gatewayv1.TLSProtocolType)
	protocolTCP   = string(gatewayv1.TCPProtocolType)
	protocolUDP   = string(gatewayv1.UDPProtocolType)

	tlsTerminate, tlsPassthrough = string(gatewayv1.TLSModeTerminate), string(gatewayv1.TLSModePassthrough)

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
	configs   map[mesh.GatewayKey]*mesh.Gateway // without what they export and whom they let in
	listeners map[world.ObjectRef][]ListenerState
	sets      map[world.Key]int    // ListenerSets that are accepted, of Gateways that are named by any
	wanted    set[world.ObjectRef] // Secrets and ConfigMaps that may be referred to, and are
}

// serving are the classes of those that are served.
func (g gateways) serving(x *index) map[mesh.GatewayKey]string {
	out := make(map[mesh.GatewayKey]string, len(g.configs))
	for k := range g.configs {
		out[k] = x.state.Gateways[world.Key{Cluster: x.config.LocalCluster, Namespace: k.Namespace, Name: k.Name}].Class
	}
	return out
}

// gateways looks at all local Gateways.
func (x *index) gateways() gateways {
	out := gateways{
		findings: make(map[world.ObjectRef][]Finding, len(x.routes)), plans: map[world.Key]*GatewayPlan{},
		addresses: map[world.Key][]world.GatewayAddress{}, configs: map[mesh.GatewayKey]*mesh.Gateway{},
		listeners: map[world.ObjectRef][]ListenerState{}, sets: map[world.Key]int{}, wanted: set[world.ObjectRef]{},
	}
	var ours []*world.Gateway
	for k := range x.gatesIn[x.config.LocalCluster] {
		if g := x.state.Gateways[k]; !g.Deleting && x.governs(g) {
			ours = append(ours, g)
		}
	}
	slices.SortFunc(ours, compareAge)
	gates, judged := map[world.Key]*gate{}, x.judgeAll(ours, out.wanted)
	for _, g := range ours {
		gates[g.Key] = newGate(judged.gateways[g.Key])
	}
	x.lighten()
	x.attachAll(gates, out.findings)
	x.settlePolicies(judged.policies, out.findings)
	taken := map[string]world.Key{}
	for _, g := range ours {
		isAccepted, isProgrammed := x.gateway(gates[g.Key], taken, out)
		x.listenerSets(gates[g.Key], isAccepted, isProgrammed, out)
	}
	x.orphans(out.findings)
	x.memory.keep(out)
	return out
}

// governs says whether a local Gateway is ours. One whose class was deleted is nobody's: what we made for it goes on until the class is somebody's again.
func (x *index) governs(g *world.Gateway) bool {
	c := x.state.GatewayClasses[g.In("", g.Class)]
	return c != nil && c.Controller == ControllerName || c == nil && x.madeByUs(g.Key)
}

// gateway says what becomes of one of them, and whether it is accepted and programmed.
func (x *index) gateway(at *gate, taken map[string]world.Key, out gateways) (isAccepted, isProgrammed bool) {
	g := at.gateway
	out.listeners[g.Ref()] = at.states()
	valid, _ := at.valid()
	problem := x.gatewayProblem(g)
	if problem == nil && valid > 0 && !unmanaged(g) {
		problem = x.nameTaken(g)
	}
	var own []Finding
	x.gatewayItself(at, problem, taken, out, func(listener, kind string, holds bool, reason, message string) {
		isAccepted, isProgrammed = isAccepted || kind == accepted && holds, isProgrammed || kind == programmed && holds
		own = append(own, gatewayFinding(g, listener, kind, holds, reason, message))
	})
	out.findings[g.Ref()] = at.say(problem == nil, own)
	return isAccepted, isProgrammed
}

func gatewayFinding(g *world.Gateway, listener, kind string, holds bool, reason, message string) Finding {
	f := Finding{Listener: listener, Type: kind, Status: isFalse, Reason: reason, Message: shorten(message), Generation: g.Generation, UID: g.UID}
	if holds {
		f.Status = isTrue
	}
	return f
}

// gatewayItself says what becomes of a Gateway that may have a problem, but not of its listeners.
func (x *index) gatewayItself(at *gate, problem *gatewayProblem, taken map[string]world.Key, out gateways, add func(listener, kind string, holds bool, reason, message string)) {
	g := at.gateway
	out.addresses[g.Key] = nil
	network, _ := x.network(x.config.LocalCluster)
	if g.Network != "" && x.near(g.Network) {
		network = g.Network
	}
	refuse := func(reason gatewayv1.GatewayConditionReason, message string) {
		listeners, exposed := x.lastListeners(at), x.exposed(g)
		if exposed != "" {
			listeners, message = nil, message+exposed
		}
		if len(listeners) > 0 || at.shuts() || x.shutOut(at) || exposed != "" {
			if len(listeners) > 0 {
				message += "; what was accepted last keeps serving"
			}
			out.configs[mesh.GatewayKey{Namespace: g.Namespace, Name: g.Name}] = &mesh.Gateway{
				Namespace: g.Namespace, Name: g.Name, Network: network, ServiceAccount: cmp.Or(g.ServiceAccount, ResourceName(g.Name)),
				Listeners: listeners, TrustDomains: x.trustDomains(), BackendTLS: at.backendTLS, ClientCertificate: at.proof.certificate,
			}
			if len(listeners) > 0 || at.shuts() && exposed == "" { // else nobody is to come
				out.addresses[g.Key] = x.allAddresses(g)
			}
		}
		out.addresses[g.Key] = x.holding(g, out.addresses[g.Key])
		add("", accepted, false, string(reason), message)
		why := gatewayv1.GatewayReasonInvalid
		if unnamed(g) {
			why = gatewayv1.GatewayReasonAddressNotAssigned // as the API wants it said
		}
		add("", programmed, false, string(why), "the Gateway is not accepted: "+message)
	}

	valid, own := at.valid()
	x.reportTLS(at, add)
	if problem != nil {
		refuse(problem.reason, problem.message)
		return
	}
	listeners := x.meshListeners(at)
	switch {
	case valid == 0:
		refuse(gatewayv1.GatewayReasonListenersNotValid, "no listener is valid; see the listeners' conditions")
		return
	case own < len(g.Listeners):
		message := fmt.Sprintf("%d of %d listeners are valid and served, all but %s; see the listeners' conditions", own, len(g.Listeners), at.invalid())
		if own == 0 { // those of ListenerSets are, and must not stop what is the Gateway's own
			if last := x.lastTunnels(g); len(last) > 0 {
				message += "; the tunnels that were accepted last are served still"
				listeners = append(last, listeners...)
			}
		}
		add("", accepted, true, string(gatewayv1.GatewayReasonListenersNotValid), message)
	default:
		add("", accepted, true, string(gatewayv1.GatewayReasonAccepted), "the Gateway is served")
	}

	plan := &GatewayPlan{
		Key: g.Key, UID: g.UID, Class: g.Class, Network: cmp.Or(g.Network, network), ServiceAccount: cmp.Or(g.ServiceAccount, ResourceName(g.Name)),
		ServiceType: x.serviceType(g), InfraLabels: g.InfraLabels, InfraAnnotations: g.InfraAnnotations,
		Name: ResourceName(g.Name), Unmanaged: unmanaged(g), Kept: x.keeps(g), Overlay: x.overlay(g),
	}
	plan.Listeners = at.portsOf(listeners)
	addresses, failure := x.gatewayAddresses(g, plan, taken)
	if going := x.nameGoing(g); going != nil && !plan.Unmanaged {
		if failure = going; !x.madeByUs(g.Key) {
			addresses = nil // somebody else's
		}
	}
	out.plans[g.Key] = plan
	out.addresses[g.Key] = x.holding(g, addresses)
	out.configs[mesh.GatewayKey{Namespace: g.Namespace, Name: g.Name}] = &mesh.Gateway{
		Namespace: g.Namespace, Name: g.Name, Network: plan.Network, ServiceAccount: plan.ServiceAccount,
		Listeners: x.alsoBeside(g, listeners), TrustDomains: x.trustDomains(), BackendTLS: at.backendTLS, ClientCertificate: at.proof.certificate,
	}
	if failure != nil {
		add("", programmed, false, string(failure.reason), failure.message)
		return
	}
	if without := "other clusters do not use the gateway"; !x.standing(g.Key) {
		if g.Class == ClassWaypoint {
			without = "connections to what is behind the waypoint are refused"
		}
		add("", programmed, false, string(gatewayv1.GatewayReasonNoResources),
			fmt.Sprintf("no pod behind Service %s/%s is ready, so %s", g.Namespace, x.front(g).Name, without))
		return
	}
	add("", programmed, true, string(gatewayv1.GatewayReasonProgrammed), "the Gateway has an address, and pods that are ready")
}

// LabelManagedBy has the value ManagedBy on everything that we make for a Gateway.
const LabelManagedBy, ManagedBy = "app.kubernetes.io/managed-by", "isthmus"

// madeByUs says whether we made the Service of a Gateway, and so accepted the Gateway once.
func (x *index) madeByUs(k world.Key) bool {
	name := ResourceName(k.Name)
	return madeFor(x.state.Services[k.In(k.Namespace, name)]) == name
}

// madeFor is the name of what we made for a Gateway, if a Service is a part of it.
func madeFor(s *world.Service) string {
	if s == nil || s.Labels[LabelManagedBy] != ManagedBy {
		return ""
	}
	return s.Labels[LabelGatewayName]
}

// LabelGatewayName is on everything that is made for a Gateway (GEP-1762).
const LabelGatewayName = gatewayv1.GatewayNameLabelKey

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

// gatewayProblem finds what makes a whole Gateway unacceptable.
func (x *index) gatewayProblem(g *world.Gateway) *gatewayProblem {
	class := x.state.GatewayClasses[g.In("", g.Class)]
	if class == nil {
		return &gatewayProblem{gatewayv1.GatewayReasonPending, fmt.Sprintf("spec.gatewayClassName: there is no GatewayClass %q", g.Class)}
	}
	if problem := x.parametersProblem(g); problem != nil {
		return problem
	}
	if class.HasParameters {
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters, fmt.Sprintf("GatewayClass %s has spec.parametersRef, and no kind of parameters is supported", g.Class)}
	}
	switch g.ServiceType {
	case "", typeLoadBalancer, typeNodePort, typeClusterIP:
	default:
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters,
			fmt.Sprintf("annotation %s: %q is none of LoadBalancer, NodePort, ClusterIP", world.AnnotationServiceType, g.ServiceType)}
	}
	own, _ := x.network(x.config.LocalCluster)
	if g.Network != "" && own != "" && !x.near(g.Network) {
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters,
			fmt.Sprintf("label %s is %q, but this cluster's pods are on network %s: a gateway leads to its own cluster's networks only", world.LabelNetwork, g.Network, strings.Join(quote(x.networksHere()), ", "))}
	}
	for i, a := range g.Addresses {
		if a.Routability != "" {
			return &gatewayProblem{gatewayv1.GatewayReasonUnsupportedAddress,
				fmt.Sprintf("spec.addresses[%d].routability: %q is not supported; with annotation %s: %s nothing outside of the cluster leads to the Gateway", i, a.Routability, world.AnnotationServiceType, typeClusterIP)}
		}
		if a.Type == addressHostname {
			if problem := x.hostnameProblem(g, i); problem != nil {
				return problem
			}
			continue
		}
		if a.Type != addressIP {
			return &gatewayProblem{gatewayv1.GatewayReasonUnsupportedAddress,
				fmt.Sprintf("spec.addresses[%d].type: %q is not supported, only IPAddress and Hostname are", i, a.Type)}
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

// quote gives names for a message.
func quote(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strconv.Quote(n))
	}
	return out
}
