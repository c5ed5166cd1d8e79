// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxResourceName is how long the name of a Service and the value of a label may be.
const maxResourceName = 63

// ResourceName is the name of everything that is made for a Gateway, and the value of the label that says so: the Gateway's own, unless it
// is none that a Service or a label can have. Then it is the beginning of it and a hash of the whole, 40 bits: two such Gateways of one
// namespace that begin alike would have to be made on purpose to meet, and then the second is told that its name is taken.
func ResourceName(gateway string) string {
	if len(gateway) <= maxResourceName && !strings.Contains(gateway, ".") && (gateway == "" || gateway[0] >= 'a') {
		return gateway
	}
	sum := sha256.Sum256([]byte(gateway))
	hash := hex.EncodeToString(sum[:5])
	begin := strings.ReplaceAll(gateway, ".", "-")
	if begin[0] < 'a' { // a digit: a Service's name begins with a letter
		begin = "g" + begin
	}
	begin = strings.TrimRight(begin[:min(len(begin), maxResourceName-1-len(hash))], "-")
	return begin + "-" + hash
}

// unmanaged says that a Gateway names the Service that leads to it, so that nothing is made for it.
func unmanaged(g *world.Gateway) bool {
	return slices.ContainsFunc(g.Addresses, func(a world.GatewayAddress) bool { return a.Type == addressHostname })
}

// unnamed says that a Gateway asks for a name of its own, which nobody gives it.
func unnamed(g *world.Gateway) bool {
	return slices.ContainsFunc(g.Addresses, func(a world.GatewayAddress) bool { return a.Type == addressHostname && a.Value == "" })
}

// exposed says that a Gateway all of whose addresses are for a part of the world only, which is refused, has a Service that others reach, too: what was served to them is no more. It ends
// a message; "": it is not so.
func (x *index) exposed(g *world.Gateway) string {
	made := x.made(g.Key)
	if made == nil || made.Type == typeClusterIP || len(g.Addresses) == 0 || slices.ContainsFunc(g.Addresses, func(a world.GatewayAddress) bool { return a.Routability == "" }) {
		return ""
	}
	return fmt.Sprintf("; nothing is served meanwhile, as the %s Service %s/%s leads to it from elsewhere, too", made.Type, made.Namespace, made.Name)
}

// front is the Service that leads to a Gateway's pods.
func (x *index) front(g *world.Gateway) world.Key {
	if !unmanaged(g) || x.stillLeads(g) {
		return g.In(g.Namespace, ResourceName(g.Name))
	}
	return x.named(g)
}

// named is the Service that a Gateway names, which asks for a Hostname; the zero value: none that it could have.
func (x *index) named(g *world.Gateway) world.Key {
	if name, ok := x.ownService(g, g.Addresses[0].Value); ok {
		return g.In(g.Namespace, name)
	}
	return world.Key{}
}

// keeps says that what was made for a Gateway goes on as it is, although it names a Service of its own by now: that one cannot take its place yet. Who names the wrong one shall not lose
// what a load balancer gave, nor anybody's connections.
func (x *index) keeps(g *world.Gateway) bool {
	made := x.made(g.Key)
	return unmanaged(g) && made != nil && made.Owner != "" && made.Owner == g.UID && !made.Deleting && x.notYet(g) != nil
}

// stillLeads says that the Service that was made for a Gateway, which names one of its own, leads to it. That one is handed over to for good when nobody is left behind the old one who stays: it leads on
// although its own pods are not ready for a moment, as nobody would be reached by the old address meanwhile.
func (x *index) stillLeads(g *world.Gateway) bool {
	if !x.keeps(g) {
		return false
	}
	return x.notYet(g).reason != gatewayv1.GatewayReasonNoResources || !x.spent(x.made(g.Key).Key)
}

// spent says that nobody is behind a Service but pods that end. It is not so as long as nobody said who is behind it.
func (x *index) spent(service world.Key) bool {
	for slice, ep := range x.lookedAt(service) {
		if ep.Pod == "" && ep.Ready {
			return false
		}
		if p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]; ep.Pod != "" && p != nil && !p.Deleting {
			return false
		}
	}
	return x.slicesOf.has(service)
}

// notYet finds why the Service that a Gateway names cannot take the place of the one that was made for it, if it cannot.
func (x *index) notYet(g *world.Gateway) *gatewayProblem {
	named := x.named(g)
	if problem := x.lacks(named, g.Listeners); problem != nil {
		return problem
	}
	other, nodes := x.ledBy(named, g), x.state.Services[named].Type == typeNodePort
	switch {
	case other != nil:
		return &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("Service %s/%s leads to Gateway %s/%s", named.Namespace, named.Name, other.Namespace, other.Name)}
	case !x.behindTakes(named):
		return &gatewayProblem{gatewayv1.GatewayReasonNoResources, fmt.Sprintf("no pod behind Service %s/%s is ready", named.Namespace, named.Name)}
	case !x.behindHas(named, func(p *world.Pod) bool { return p == nil || !MadeFor(g.Name, p) }):
		return &gatewayProblem{gatewayv1.GatewayReasonNoResources,
			fmt.Sprintf("behind Service %s/%s are no pods but those that were made for the Gateway, which would go", named.Namespace, named.Name)}
	case len(x.addressesAt(g, named)) == 0:
		return &gatewayProblem{gatewayv1.GatewayReasonAddressNotAssigned, fmt.Sprintf("Service %s/%s has no address yet", named.Namespace, named.Name)}
	}
	if nodes || g.Cluster != x.config.LocalCluster {
		return nil // nodes serve each Gateway at ports of its own, and others' load balancers are theirs
	}
	for _, a := range x.addressesAt(g, named) {
		if addressType(a) != addressIP {
			continue // a load balancer may have several Services at one name
		}
		for owner := range x.ingress[a] {
			if x.ledBy(owner, g) != nil {
				return &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("address %s of Service %s/%s is in use by another Gateway", a, named.Namespace, named.Name)}
			}
		}
	}
	return nil
}

// ledBy is another Gateway of ours that a Service leads to, the first by name, whose its addresses are therefore; nil: there is none. Nodes serve each Gateway at ports of its own.
func (x *index) ledBy(service world.Key, but *world.Gateway) (first *world.Gateway) {
	if s := x.state.Services[service]; s == nil || s.Type == typeNodePort {
		return nil
	}
	for k := range x.fronts[service] {
		x.looked++
		g := x.state.Gateways[k]
		if k == but.Key || g == nil || g.Deleting || !x.governs(g) {
			continue
		}
		made, leads := x.made(k), false
		ours := made != nil && made.Owner != "" && made.Owner == g.UID
		switch {
		case made != nil && made.Key == service && (ours || !unmanaged(g)): // it was made for that one
			leads = true
		case unmanaged(g) && x.named(g) == service: // all that leads to that one; or the oldest of those has it that can have it in place of what was made for them, as it keeps an address
			leads = !ours || compareAge(g, but) < 0 && x.lacks(service, g.Listeners) == nil
		}
		if leads && (first == nil || k.Compare(first.Key) < 0) {
			first = g
		}
	}
	return first
}

// compareAge puts the oldest Gateway first, which keeps an address that a younger one has too.
func compareAge(a, b *world.Gateway) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), comparePaths(a.Namespace, a.Name, b.Namespace, b.Name))
}

// secondFront is the Service that leads to a Gateway beside its front while one takes the place of the other: the one that was made for it, until its connections have had their time, or
// the one that it names, while that cannot take its place yet; nil: there is none.
func (x *index) secondFront(g *world.Gateway) *world.Service {
	made := x.made(g.Key)
	switch {
	case !unmanaged(g) || made == nil || made.Owner == "" || made.Owner != g.UID:
		return nil
	case x.stillLeads(g):
		return x.state.Services[x.named(g)]
	}
	return made
}

// alsoBeside are listeners, and those that pods have to have for who comes by the second Service: it may lead to other ports of theirs. Ports that a pod may not be able to have are not asked for,
// as it would not be ready.
func (x *index) alsoBeside(g *world.Gateway, listeners []mesh.Listener) []mesh.Listener {
	second := x.secondFront(g)
	if second == nil {
		return listeners
	}
	out := slices.Clone(listeners)
	for _, l := range listeners {
		ports := second.Ports
		if isUDP(l) {
			ports = second.UDPPorts
		}
		for _, p := range ports {
			taken := func(o mesh.Listener) bool { return o.Bind == p.Target && isUDP(o) == isUDP(l) && o.Port != l.Port }
			if p.Port == l.Port && p.Target >= lowestBind && p.Target != l.Bind && reservedPorts[p.Target] == "" && !slices.ContainsFunc(out, taken) {
				l.Bind = p.Target
				out = append(out, l)
			}
		}
	}
	return out
}

// MadeFor says whether a pod is one of the Deployment that was made for a Gateway of its namespace.
func MadeFor(gateway string, p *world.Pod) bool {
	return p.WorkloadKind == mesh.KindDeployment && p.WorkloadName == ResourceName(gateway) && p.Labels[LabelGatewayName] == p.WorkloadName && p.Labels[LabelManagedBy] == ManagedBy
}

// frontOf is the same by the Gateway's key; of one that is not there it is the Service that would be made for it.
func (x *index) frontOf(k world.Key) world.Key {
	if g := x.state.Gateways[k]; g != nil {
		return x.front(g)
	}
	return k.In(k.Namespace, ResourceName(k.Name))
}

// ownService reads the name of a Service of the Gateway's namespace: "name", or with the namespace, "svc" and the cluster's domain behind it.
func (x *index) ownService(g *world.Gateway, hostname string) (string, bool) {
	name, rest, _ := strings.Cut(hostname, ".")
	switch rest {
	case "", g.Namespace, g.Namespace + ".svc", g.Namespace + ".svc." + x.config.ClusterDomain:
		return name, name != ""
	}
	return "", false
}

// foldFront notes which Service leads to a Gateway, so that the Service's change finds it.
func (x *index) foldFront(k world.Key, was, now *world.Gateway) {
	made := k.In(k.Namespace, ResourceName(k.Name)) // which one that is not provisioned any more may have, and says whether it was
	if was != nil {
		if unmanaged(was) {
			x.fronts.remove(x.named(was), k)
		}
		x.fronts.remove(made, k)
	}
	if now != nil {
		if unmanaged(now) {
			x.fronts.add(x.named(now), k)
		}
		x.fronts.add(made, k)
	}
}

// hostnameProblem finds what is wrong with an address that is a name.
func (x *index) hostnameProblem(g *world.Gateway, i int) *gatewayProblem {
	if len(g.Addresses) > 1 {
		return &gatewayProblem{gatewayv1.GatewayReasonUnsupportedAddress,
			fmt.Sprintf("spec.addresses[%d].type: a Hostname names the Service that leads to the Gateway, so it must be the only address", i)}
	}
	name, ok := x.ownService(g, g.Addresses[i].Value)
	if s := x.state.Services[g.In(g.Namespace, name)]; ok && s != nil && s.Owner != "" && s.Owner == g.UID {
		return &gatewayProblem{gatewayv1.GatewayReasonUnsupportedAddress,
			fmt.Sprintf("spec.addresses[%d].value: Service %s/%s was made for this Gateway, which goes without an address, and would be taken away", i, g.Namespace, name)}
	}
	if !ok {
		return &gatewayProblem{gatewayv1.GatewayReasonUnsupportedAddress,
			fmt.Sprintf("spec.addresses[%d].value: %q is not the name of a Service in namespace %s, such as my-service or my-service.%s.svc.%s", i, g.Addresses[i].Value, g.Namespace, g.Namespace, x.config.ClusterDomain)}
	}
	return nil
}

// fronted finds what is wrong with the Service that an unmanaged Gateway names, if anything.
func (x *index) fronted(g *world.Gateway, listeners []mesh.Listener) *gatewayProblem {
	if x.stillLeads(g) {
		problem := *x.notYet(g)
		problem.message += "; what was made for the Gateway goes on until that Service can take its place"
		return &problem
	}
	served := make([]world.Listener, 0, len(listeners))
	for _, l := range listeners {
		protocol := protocolTCP
		if isUDP(l) {
			protocol = protocolUDP
		}
		served = append(served, world.Listener{Name: l.Name, Port: l.Port, Protocol: protocol})
	}
	return x.lacks(x.front(g), served)
}

// lacks finds what a Service of a Gateway's own lacks to lead to listeners.
func (x *index) lacks(k world.Key, listeners []world.Listener) *gatewayProblem {
	s := x.state.Services[k]
	if s == nil {
		return &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("spec.addresses[0].value: there is no Service %s/%s", k.Namespace, k.Name)}
	}
	for _, l := range listeners {
		ports, protocol := s.Ports, protocolTCP
		if l.Protocol == protocolUDP {
			ports, protocol = s.UDPPorts, protocolUDP
		}
		if !slices.ContainsFunc(ports, func(p world.ServicePort) bool { return p.Port == l.Port }) {
			return &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("Service %s/%s has no %s port %d, which listener %s has", k.Namespace, k.Name, protocol, l.Port, l.Name)}
		}
	}
	return nil
}

// bindAt is the port that the process listens on for a listener: of an unmanaged one, what its Service leads to.
func (x *index) bindAt(g *world.Gateway, l world.Listener) uint16 {
	if s := x.state.Services[x.front(g)]; s != nil && unmanaged(g) && !x.stillLeads(g) {
		ports := s.Ports
		if l.Protocol == protocolUDP {
			ports = s.UDPPorts
		}
		for _, p := range ports {
			if p.Port == l.Port && p.Target != 0 {
				return p.Target
			}
		}
	}
	return bindOf(l.Port)
}
