// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The ports of the listeners in each pod's network namespace.
const (
	outboundPort  = 15001
	plaintextPort = 15006
	dnsPort       = 15053
)

// ownPort says that a connection to this port would come back to us.
func ownPort(port uint16) bool {
	return port == outboundPort || port == plaintextPort || port == mesh.HBONEPort
}

// Via is how an outbound connection travels.
type Via uint8

const (
	// Direct is plain TCP.
	Direct Via = iota
	// HBONE is one tunnel, to the next hop.
	HBONE
	// DoubleHBONE is an inner tunnel to the last hop, inside an outer one to the gateway of its network.
	DoubleHBONE
)

// String is the tunnel's name in the access log.
func (v Via) String() string { return [...]string{"plain", "hbone", "double-hbone"}[v] }

// Plan is one outbound connection, decided. It is a value: diff it, print it, test it.
type Plan struct {
	Via    Via
	Dial   netip.AddrPort  // where the TCP connection goes: pod, waypoint or network gateway
	Host   string          // instead of Dial's address, when the next hop is known by name only
	Target string          // :authority of the CONNECT ("10.0.0.7:8080" or "cart.shop.svc.cluster.local:80"); empty for Direct
	Next   []mesh.Identity // any one of these the next hop must prove
	Last   []mesh.Identity // DoubleHBONE only: any one of these the last hop must prove

	// Service is what the application meant, and Endpoint who was picked for it; nil when not known. They are for telemetry.
	Service  *mesh.Service
	Endpoint *mesh.Workload
	// Picked is the UID to avoid when this plan fails, so that another one may be made; empty if there was no choice.
	Picked string
	// Others says that another one could be made.
	Others bool
}

// Source is who asks for an outbound connection.
type Source struct {
	// Network is this proxy's own: addresses that pods dial are looked up in it.
	Network  string
	Workload *mesh.Workload
}

// Choice is what Decide may choose by: which endpoints were tried already, and chance.
type Choice struct {
	Avoid  map[string]struct{}
	Random func(n uint64) uint64
}

// Decide says where a connection that a pod opens to dst goes. It is pure. The rows in its comments are those of the table in the
// wire's specification (docs/hbone.md §12).
func Decide(v *directory.View, src Source, dst netip.AddrPort, choice Choice) (Plan, *Refusal) {
	d := decision{view: v, src: src, dst: netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port()), choice: choice}
	if d.dst.Addr().IsLoopback() && ownPort(d.dst.Port()) {
		return Plan{}, unavailable(ReasonOwnPort, "%v is a port of the proxy itself", d.dst)
	}
	if s := v.ServiceAt(src.Network, d.dst.Addr(), src.Workload.Namespace); s != nil {
		return d.toService(s)
	}
	if w := v.WorkloadAt(src.Network, d.dst.Addr()); w != nil {
		if waypoint := d.waypoint(w.Waypoint); waypoint.exists() {
			return d.throughWaypoint(waypoint, nil) // row 5
		}
		return d.toWorkload(w, d.dst, nil), nil // rows 6 and 7
	}
	return Plan{Via: Direct, Dial: d.dst}, nil // row 8
}

type decision struct {
	view   *directory.View
	src    Source
	dst    netip.AddrPort
	choice Choice
}

func (d *decision) toService(s *mesh.Service) (Plan, *Refusal) {
	if waypoint := d.waypoint(s.Waypoint); waypoint.exists() {
		return d.throughWaypoint(waypoint, s) // rows 1 and 2
	}
	if s.Balance.Mode == mesh.BalancePassthrough {
		return Plan{Via: Direct, Dial: d.dst, Service: s}, nil
	}
	e, ok := directory.Pick(d.view, d.want(s, d.dst.Port()))
	if !ok {
		return Plan{Service: s}, unavailable(ReasonNoEndpoint, "service %s has no usable endpoint for port %d", s.Key(), d.dst.Port()) // row 9
	}
	var p Plan
	if e.Remote(d.src.Network) {
		var refusal *Refusal
		if p, refusal = d.throughGateway(e.Workload, s, s.SANs); refusal != nil { // rows 4 and 10
			return p, refusal
		}
	} else {
		p = d.toWorkload(e.Workload, netip.AddrPortFrom(e.Addr, e.Port.Target), s) // rows 3 and 7
	}
	p.Picked, p.Others = e.Workload.UID, e.Others
	return p, nil
}

func (d *decision) want(s *mesh.Service, port uint16) directory.Want {
	return directory.Want{
		Network: d.src.Network, Client: d.src.Workload, Service: s, Port: port,
		IPv6: d.dst.Addr().Is6(), Avoid: d.choice.Avoid, Random: d.choice.Random,
	}
}

// toWorkload plans for an endpoint in our own network, at to.
func (d *decision) toWorkload(w *mesh.Workload, to netip.AddrPort, s *mesh.Service) Plan {
	p := Plan{Via: Direct, Dial: to, Service: s, Endpoint: w}
	host := to.Addr().String()
	if !to.Addr().IsValid() {
		host, p.Host = w.Hostname, w.Hostname
	}
	if w.Tunnel == mesh.TunnelHBONE {
		p.Via = HBONE
		p.Dial = netip.AddrPortFrom(to.Addr(), mesh.HBONEPort)
		p.Target = hostPort(host, to.Port())
		p.Next = identities(w, s)
	}
	return p
}

// throughGateway plans for what is behind the gateway of another network: w, which stands for the endpoints of s there. Only what the
// service says may be at the far end is believed there, for the gateway sees the outer tunnel alone.
func (d *decision) throughGateway(w *mesh.Workload, s *mesh.Service, last []string) (Plan, *Refusal) {
	p := Plan{Via: DoubleHBONE, Target: hostPort(s.Hostname, d.dst.Port()), Last: parse(last), Service: s, Endpoint: w, Picked: w.UID}
	if w.NetworkGateway == nil {
		return p, unavailable(ReasonNoGateway, "endpoint %s is in network %q, which has no gateway", w.UID, w.Network)
	}
	gateway := *w.NetworkGateway
	port := cmp.Or(gateway.Port, mesh.HBONEPort)
	if gateway.Hostname.Hostname != "" {
		if host := d.view.WorkloadNamed(gateway.Hostname); host != nil {
			p.Host, p.Dial, p.Next = host.Hostname, netip.AddrPortFrom(netip.Addr{}, port), identities(host, nil)
			return p, nil
		}
		if front := d.view.Service(gateway.Hostname); front != nil {
			return d.throughGatewayService(p, front, port, w.Network)
		}
		return p, unavailable(ReasonNoGateway, "gateway %s of network %q is not known", gateway.Hostname, w.Network)
	}
	if host := d.view.WorkloadAt(gateway.Addr.Network, gateway.Addr.Addr); host != nil {
		p.Dial, p.Next = netip.AddrPortFrom(gateway.Addr.Addr.Unmap(), port), identities(host, nil)
		// The gateway's own services say who may stand behind its address, as for a pod.
		for key := range host.Services {
			if front := d.view.Service(key); front != nil {
				p.Next = merge(p.Next, parse(front.SANs))
			}
		}
		return p, nil
	}
	if front := d.view.ServiceAt(gateway.Addr.Network, gateway.Addr.Addr, w.Namespace); front != nil {
		return d.throughGatewayService(p, front, port, w.Network)
	}
	return p, unavailable(ReasonNoGateway, "gateway %s of network %q is not known", gateway.Addr.Addr, w.Network)
}

// throughGatewayService plans for a gateway that is named by a service: one of its workloads is dialled at its own address.
func (d *decision) throughGatewayService(p Plan, front *mesh.Service, port uint16, network string) (Plan, *Refusal) {
	want := d.want(front, port)
	want.Network, want.LocalOnly = network, true
	e, ok := directory.Pick(d.view, want)
	if !ok || !e.Addr.IsValid() {
		return p, unavailable(ReasonNoGateway, "gateway service %s of network %q has no usable endpoint", front.Key(), network)
	}
	p.Dial, p.Next = netip.AddrPortFrom(e.Addr, e.Port.Target), identities(e.Workload, front)
	return p, nil
}

// waypoint is a waypoint that was looked up: a service with its endpoints, or a single workload.
type waypoint struct {
	service  *mesh.Service
	workload *mesh.Workload
	port     uint16
}

func (w waypoint) exists() bool { return w.service != nil || w.workload != nil }

// waypoint finds the waypoint at an address, unless the source is that waypoint itself: what comes out of it goes to the endpoint.
func (d *decision) waypoint(at *mesh.GatewayAddress) waypoint {
	if at == nil {
		return waypoint{}
	}
	w := waypoint{port: cmp.Or(at.Port, mesh.HBONEPort)}
	if at.Hostname.Hostname != "" {
		w.service = d.view.Service(at.Hostname)
	} else {
		w.service = d.view.ServiceAt(at.Addr.Network, at.Addr.Addr, d.src.Workload.Namespace)
		if w.service == nil {
			w.workload = d.view.WorkloadAt(at.Addr.Network, at.Addr.Addr)
		}
	}
	if w.service != nil {
		if _, itself := d.src.Workload.Services[w.service.Key()]; itself {
			return waypoint{}
		}
	}
	if w.workload != nil && w.workload.UID == d.src.Workload.UID {
		return waypoint{}
	}
	if !w.exists() {
		// A waypoint that is configured but not known yet must not be walked around: it may be what enforces a policy.
		w.service = &mesh.Service{Namespace: at.Hostname.Namespace, Hostname: cmp.Or(at.Hostname.Hostname, at.Addr.Addr.String())}
	}
	return w
}

// throughWaypoint plans for the waypoint in front of a service s, or of a workload if s is nil.
func (d *decision) throughWaypoint(w waypoint, s *mesh.Service) (Plan, *Refusal) {
	target := d.dst.String()
	if w.workload != nil {
		addr, ok := directory.Address(w.workload, mesh.FamiliesAny, d.dst.Addr().Is6())
		if !ok {
			return Plan{Service: s}, unavailable(ReasonNoEndpoint, "waypoint %s has no address", w.workload.UID)
		}
		return Plan{
			Via: HBONE, Dial: netip.AddrPortFrom(addr, w.port), Target: target, Next: identities(w.workload, nil),
			Service: s, Endpoint: w.workload,
		}, nil
	}
	e, ok := directory.Pick(d.view, d.want(w.service, w.port))
	if !ok {
		return Plan{Service: s}, unavailable(ReasonNoEndpoint, "waypoint %s has no usable endpoint for port %d", w.service.Key(), w.port)
	}
	if e.Remote(d.src.Network) {
		if s == nil {
			return Plan{}, unavailable(ReasonNoGateway, "a single pod cannot be reached through the waypoint %s in network %q", w.service.Key(), e.Workload.Network)
		}
		p, refusal := d.throughGateway(e.Workload, s, w.service.SANs)
		p.Others = e.Others
		return p, refusal
	}
	p := Plan{
		Via: HBONE, Dial: netip.AddrPortFrom(e.Addr, e.Port.Target), Target: target, Next: identities(e.Workload, w.service),
		Service: s, Endpoint: e.Workload, Picked: e.Workload.UID, Others: e.Others,
	}
	if !e.Addr.IsValid() {
		p.Host = e.Workload.Hostname
	}
	return p, nil
}

// identities are those that may stand at a workload's address: its own, and those that the service vouches for.
func identities(w *mesh.Workload, s *mesh.Service) []mesh.Identity {
	var out []mesh.Identity
	if w.ServiceAccount != "" {
		out = append(out, w.Identity())
	}
	if s != nil {
		out = merge(out, parse(s.SANs))
	}
	return out
}

// parse reads SPIFFE ids and leaves out what is none: a name that we cannot read is one that nobody can prove to us.
func parse(sans []string) []mesh.Identity {
	out := make([]mesh.Identity, 0, len(sans))
	for _, san := range sans {
		if id, err := mesh.ParseIdentity(san); err == nil {
			out = append(out, id)
		}
	}
	return out
}

func merge(a, b []mesh.Identity) []mesh.Identity {
	for _, id := range b {
		if !slices.Contains(a, id) {
			a = append(a, id)
		}
	}
	return a
}

func hostPort(host string, port uint16) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(addr, port).String()
	}
	return host + ":" + strconv.Itoa(int(port))
}
