// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"cmp"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Choice is what may be chosen by: which endpoints and gateways were tried already, which failed others lately, and chance.
type Choice struct {
	Avoid, Ejected directory.Out
	Random         func(n uint64) uint64
}

// From is where a connection begins, and what is known there. Its methods are pure.
type From struct {
	View *directory.View
	// Network is where we are: addresses are looked up in it, and what is in another one is behind that one's gateway.
	Network string
	// Workload is who connects, for its locality; nil if it is not known.
	Workload *mesh.Workload
	// IPv6 is the family that was asked for; what has an address of it is reached by that one.
	IPv6 bool
	// LocalOnly leaves out what is behind other networks' gateways.
	LocalOnly bool
	Choice
}

// Service plans for one of a service's endpoints, in whichever network: picked as directory.Pick says. The rows in comments here are those of the table in the
// wire's specification (docs/hbone.md §12).
func (f *From) Service(s *mesh.Service, port uint16) (Plan, *Refusal) {
	want := f.Want(s, port)
	e, ok := directory.Pick(f.View, want)
	if !ok {
		return Plan{Service: s}, f.Missed(want) // rows 9 and 10
	}
	var p Plan
	if e.Remote(f.Network) {
		var refusal *Refusal
		if p, refusal = f.ThroughGateway(e.Workload, s, port, s.SANs); refusal != nil { // rows 4 and 10
			return p, refusal
		}
	} else {
		p = f.ToWorkload(e.Workload, netip.AddrPortFrom(e.Addr, e.Port.Target), s) // rows 3 and 7
	}
	p.Port, p.Picked, p.Others = e.Port, e.Workload.UID, e.Others
	return p, nil
}

// Want is the question about a service's endpoints.
func (f *From) Want(s *mesh.Service, port uint16) directory.Want {
	return directory.Want{
		Network: f.Network, Client: f.Workload, Service: s, Port: port,
		IPv6: f.IPv6, Avoid: f.Avoid, Ejected: f.Ejected, LocalOnly: f.LocalOnly, Random: f.Random,
	}
}

// Missed says why nothing was picked.
func (f *From) Missed(want directory.Want) *Refusal {
	s, port := want.Service, want.Port
	if _, known := s.Port(port); !known && len(s.Ports) > 0 {
		return unavailable(ReasonNoPort, "service %s has no port %d", s.Key(), port)
	}
	switch directory.Why(f.View, want) {
	case directory.Tried:
		return unavailable(ReasonNoEndpoint, "all usable endpoints of service %s were tried", s.Key())
	case directory.TooFar:
		return unavailable(ReasonTooFar, "service %s has no endpoint within %v", s.Key(), s.Balance.Preference)
	case directory.WrongFamily:
		return unavailable(ReasonWrongFamily, "no endpoint of service %s has an address of its IP families", s.Key())
	case directory.NoGateway:
		return unavailable(ReasonNoGateway, "service %s has endpoints in networks without a known gateway only", s.Key())
	case directory.NoPort:
		return unavailable(ReasonNoPort, "no endpoint of service %s has its port %d", s.Key(), port)
	case directory.Unhealthy:
		return unavailable(ReasonNoEndpoint, "no endpoint of service %s is ready", s.Key())
	default:
		return unavailable(ReasonNoEndpoint, "service %s has no endpoint", s.Key())
	}
}

// ToWorkload plans for an endpoint in our own network, at to, of a service or, if s is nil, for itself.
func (f *From) ToWorkload(w *mesh.Workload, to netip.AddrPort, s *mesh.Service) Plan {
	p := Plan{Via: Direct, Dial: to, Service: s, Endpoint: w}
	if !to.Addr().IsValid() {
		f.ByName(&p, w, s)
	}
	if w.Tunnel == mesh.TunnelHBONE {
		p.Via, p.Dial, p.Next = HBONE, netip.AddrPortFrom(to.Addr(), mesh.HBONEPort), Identities(w, s)
		if p.Host == "" {
			p.Target = to.String()
		} else {
			// The far end takes a name in the authority for that of a service.
			p.TargetPort = to.Port()
		}
	}
	return p
}

// ByName has a plan's next hop resolved when it is dialled.
func (f *From) ByName(p *Plan, w *mesh.Workload, s *mesh.Service) {
	p.Host, p.IPv6 = w.Hostname, f.IPv6
	if s != nil {
		p.Families = s.Families
	}
}

// ThroughGateway plans for what is behind the gateway of another network: w, which stands for the endpoints of s there, or for what comes before them. Only last, what
// may be at the far end, is believed there, for the gateway sees the outer tunnel alone.
func (f *From) ThroughGateway(w *mesh.Workload, s *mesh.Service, servicePort uint16, last []string) (Plan, *Refusal) {
	p := Plan{Via: DoubleHBONE, Target: HostPort(s.Hostname, servicePort), Last: parse(last), Service: s, Endpoint: w, Picked: w.UID}
	if w.NetworkGateway == nil {
		return p, unavailable(ReasonNoGateway, "endpoint %s is in network %q, which has no gateway", w.UID, w.Network)
	}
	gateway := *w.NetworkGateway
	p.Gateway, p.Behind = gateway, Behind(f.View, w)
	named, port := gateway.Hostname.Hostname != "", cmp.Or(gateway.Port, mesh.HBONEPort)
	switch host, front := f.View.GatewayOf(w); {
	case front != nil:
		return f.throughGatewayService(p, front, w)
	case host != nil && named:
		f.ByName(&p, host, nil)
		p.Dial, p.Next = netip.AddrPortFrom(netip.Addr{}, port), Identities(host, nil)
		return p, nil
	case host != nil:
		p.Dial, p.Next = netip.AddrPortFrom(gateway.Addr.Addr.Unmap(), port), Identities(host, nil)
		// The gateway's own services say who may stand behind its address, as for a pod.
		for key := range host.Services {
			if front := f.View.Service(key); front != nil {
				p.Next = merge(p.Next, parse(front.SANs))
			}
		}
		return p, nil
	case named:
		return p, unavailable(ReasonNoGateway, "gateway %s of network %q is not known", gateway.Hostname, w.Network)
	default:
		return p, unavailable(ReasonNoGateway, "gateway %s of network %q is not known", gateway.Addr.Addr, w.Network)
	}
}

// Behind says how many endpoints of what w stands for are behind the gateways of its network, by all of them together. Each of them stands for a part: it says nothing of the others
// that lead to the same endpoints.
func Behind(v *directory.View, w *mesh.Workload) (n uint32) {
	for key := range w.Services {
		for _, other := range v.Endpoints(key) {
			if other.NetworkGateway != nil && other.Network == w.Network {
				n += other.Capacity
			}
		}
	}
	return n
}

// throughGatewayService plans for a gateway of w that is named by a service: one of its workloads is dialled at its own address.
func (f *From) throughGatewayService(p Plan, front *mesh.Service, w *mesh.Workload) (Plan, *Refusal) {
	e, ok := directory.Pick(f.View, f.Want(front, 0).Gateway(front, w))
	if !ok || !e.Addr.IsValid() {
		return p, unavailable(ReasonNoGateway, "gateway service %s of network %q has no usable endpoint", front.Key(), w.Network)
	}
	p.Dial, p.Next = netip.AddrPortFrom(e.Addr, e.Port.Target), Identities(e.Workload, front)
	p.GatewayPicked, p.GatewayOthers = e.Workload.UID, e.Others
	return p, nil
}
