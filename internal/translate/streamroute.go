// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// streams is the way through routes that look at connections or datagrams only: TLSRoutes, TCPRoutes and UDPRoutes, all of our own cluster. They are
// few, and looked at anew each time.
type streams struct {
	to        multi[world.Key, world.ObjectRef] // Service, which may not be there → routes that refer to it
	from      multi[string, world.ObjectRef]    // namespace's name → routes in it
	datagrams multi[world.Key, world.ObjectRef] // Service → UDPRoutes that refer to it, which are told of its endpoints
}

func newStreams() streams {
	return streams{multi[world.Key, world.ObjectRef]{}, multi[string, world.ObjectRef]{}, multi[world.Key, world.ObjectRef]{}}
}

// fold notes what a route refers to; no rules: it is not there.
func (s streams) fold(r world.ObjectRef, was, now [][]gatewayv1.BackendRef, there bool) {
	each := func(rules [][]gatewayv1.BackendRef, note func(multi[world.Key, world.ObjectRef], world.Key)) {
		for _, to := range streamTargets(r, rules) {
			note(s.to, to)
			if r.Kind == world.KindUDPRoute {
				note(s.datagrams, to)
			}
		}
	}
	each(was, func(m multi[world.Key, world.ObjectRef], to world.Key) { m.remove(to, r) })
	each(now, func(m multi[world.Key, world.ObjectRef], to world.Key) { m.add(to, r) })
	if there {
		s.from.add(r.Namespace, r)
	} else {
		s.from.remove(r.Namespace, r)
	}
}

// streamTargets are the Services that a route refers to.
func streamTargets(r world.ObjectRef, rules [][]gatewayv1.BackendRef) []world.Key {
	var out []world.Key
	for _, refs := range rules {
		for _, ref := range refs {
			namespace := r.Namespace
			if ref.Namespace != nil {
				namespace = string(*ref.Namespace)
			}
			out = append(out, r.In(namespace, string(ref.Name)))
		}
	}
	return out
}

func tcpStream(r *world.TCPRoute) *world.StreamRoute {
	if r == nil {
		return nil
	}
	return &r.StreamRoute
}

func udpStream(r *world.UDPRoute) *world.StreamRoute {
	if r == nil {
		return nil
	}
	return &r.StreamRoute
}

// foldStream takes in another state of a TCPRoute or a UDPRoute.
func (x *index) foldStream(r world.ObjectRef, was, now *world.StreamRoute, t *touched) {
	if r.Cluster != x.config.LocalCluster {
		return
	}
	t.routes = true
	delete(x.applied, r)
	var before, after [][]gatewayv1.BackendRef
	if was != nil {
		before = was.Rules
	}
	if now != nil {
		after = now.Rules
	}
	x.streams.fold(r, before, after, now != nil)
	x.foldServiceParents(r, streamParents(was), streamParents(now), t)
}

// streamOf works out what a gateway is told of a TCPRoute or a UDPRoute. One that is in the shadow of an older one at its listener is accepted all the same, as the API has it.
func (x *index) streamOf(a *applicant, rules [][]gatewayv1.BackendRef) {
	a.backends, a.refs = x.streamBackends(a.ref, rules)
	a.stream = &mesh.StreamRoute{Namespace: a.ref.Namespace, Name: a.ref.Name, Backends: a.backends}
}

// streamBackends are where what a route takes goes: the backends of all its rules, which match the same.
func (x *index) streamBackends(r world.ObjectRef, rules [][]gatewayv1.BackendRef) (out []mesh.StreamBackend, refs trouble) {
	for i, rule := range rules {
		for j, ref := range rule {
			b := mesh.StreamBackend{Weight: 1}
			if ref.Weight != nil {
				b.Weight = uint32(max(*ref.Weight, 0))
			}
			var problem trouble
			if b.Service, b.Port, problem = x.backendOf(r, ref.BackendObjectReference, nil); problem.reason != "" {
				b.Problem = shorten(fmt.Sprintf("rules[%d].backendRefs[%d]: %s", i, j, problem.message))
				refs.add(problem.reason, "%s", b.Problem)
			} else if r.Kind == world.KindUDPRoute {
				namespace := r.Namespace
				if ref.Namespace != nil {
					namespace = string(*ref.Namespace)
				}
				b.Endpoints = x.datagramEndpoints(r.In(namespace, string(ref.Name)), b.Port)
			}
			out = append(out, b)
		}
	}
	return out, refs
}

// datagramEndpoints are where a UDP port of a Service leads to: its ready endpoints, sorted.
func (x *index) datagramEndpoints(service world.Key, port uint16) []netip.AddrPort {
	s := x.state.Services[service]
	at := slices.IndexFunc(s.UDPPorts, func(p world.ServicePort) bool { return p.Port == port })
	if at < 0 {
		return nil
	}
	var out []netip.AddrPort
	for k := range x.slicesOf.of(service) {
		slice := x.state.EndpointSlices[k]
		to := slices.IndexFunc(slice.UDPPorts, func(p world.EndpointPort) bool { return p.Name == s.UDPPorts[at].Name })
		if to < 0 {
			continue // its endpoints lack the named port
		}
		for _, ep := range slice.Endpoints {
			if a, ok := x.datagramsAt(k, ep, s); ok {
				out = append(out, netip.AddrPortFrom(a, slice.UDPPorts[to].Port))
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// datagramsAt is the address of an endpoint of a slice that is ready, or whose Service does not mind. What is known of its pod counts more than
// the slice, which follows it.
func (x *index) datagramsAt(slice world.Key, ep world.Endpoint, s *world.Service) (netip.Addr, bool) {
	addresses, ready := ep.Addresses, ep.Ready
	if ep.Pod != "" {
		p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]
		if p == nil {
			return netip.Addr{}, false
		}
		addresses, ready = p.Addresses, healthy(p)
	}
	if !ready && !s.NotReady {
		return netip.Addr{}, false
	}
	for _, a := range addresses { // of several, the first one in a family of the Service
		if s.Families == mesh.FamiliesIPv4 && !a.Is4() || s.Families == mesh.FamiliesIPv6 && a.Is4() {
			continue
		}
		return a, true
	}
	return netip.Addr{}, false
}
