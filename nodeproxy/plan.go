// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"cmp"
	"fmt"
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
	Dial   netip.AddrPort // where the TCP connection goes: pod, waypoint or network gateway
	Host   string         // instead of Dial's address, when the next hop is known by name only; it is resolved when it is dialled
	Target string         // :authority of the CONNECT ("10.0.0.7:8080" or "cart.shop.svc.cluster.local:80"); empty for Direct
	// TargetPort is set instead of Target when the authority is the address that Host turns out to have, with this port.
	TargetPort uint16
	// Families restricts what Host may resolve to, and IPv6 says which family is tried first.
	Families mesh.Families
	IPv6     bool

	Next []mesh.Identity // any one of these the next hop must prove
	Last []mesh.Identity // DoubleHBONE only: any one of these the last hop must prove

	// Service is what the application meant, and Endpoint who was picked for it; nil when not known. They are for telemetry.
	Service  *mesh.Service
	Endpoint *mesh.Workload
	// Picked is the UID to avoid when this plan fails, so that another one may be made; empty if there was no choice.
	Picked string
	// Others says that another one could be made.
	Others bool
	// Gateway is the one that a DoubleHBONE passes; the zero value otherwise. GatewayPicked is the UID of the endpoint that was picked if it
	// is a service, and GatewayOthers says that it has another one.
	Gateway       mesh.GatewayAddress
	GatewayPicked string
	GatewayOthers bool
}

// Source is who asks for an outbound connection.
type Source struct {
	// Network is where the pod is: addresses that it dials are looked up in it.
	Network  string
	Workload *mesh.Workload
}

// Choice is what Decide may choose by: which endpoints and gateways were tried already, which failed others lately, and chance.
type Choice struct {
	Avoid, Ejected directory.Out
	Random         func(n uint64) uint64
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
		if waypoint := d.waypoint(w.Waypoint, nil); waypoint.exists() {
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
	if waypoint := d.waypoint(s.Waypoint, s.Waypoints); waypoint.exists() {
		return d.throughWaypoint(waypoint, s) // rows 1 and 2
	}
	if s.Balance.Mode == mesh.BalancePassthrough {
		return Plan{Via: Direct, Dial: d.dst, Service: s}, nil
	}
	want := d.want(s, d.dst.Port())
	e, ok := directory.Pick(d.view, want)
	if !ok {
		return Plan{Service: s}, d.missed(want) // rows 9 and 10
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
		IPv6: d.dst.Addr().Is6(), Avoid: d.choice.Avoid, Ejected: d.choice.Ejected, Random: d.choice.Random,
	}
}

// missed says why nothing was picked.
func (d *decision) missed(want directory.Want) *Refusal {
	s, port := want.Service, want.Port
	if _, known := s.Port(port); !known && len(s.Ports) > 0 {
		return unavailable(ReasonNoPort, "service %s has no port %d", s.Key(), port)
	}
	switch directory.Why(d.view, want) {
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

// toWorkload plans for an endpoint in our own network, at to.
func (d *decision) toWorkload(w *mesh.Workload, to netip.AddrPort, s *mesh.Service) Plan {
	p := Plan{Via: Direct, Dial: to, Service: s, Endpoint: w}
	if !to.Addr().IsValid() {
		d.byName(&p, w, s)
	}
	if w.Tunnel == mesh.TunnelHBONE {
		p.Via, p.Dial, p.Next = HBONE, netip.AddrPortFrom(to.Addr(), mesh.HBONEPort), identities(w, s)
		if p.Host == "" {
			p.Target = to.String()
		} else {
			// The far end takes a name in the authority for that of a service.
			p.TargetPort = to.Port()
		}
	}
	return p
}

// byName has the plan's next hop resolved when it is dialled.
func (d *decision) byName(p *Plan, w *mesh.Workload, s *mesh.Service) {
	p.Host, p.IPv6 = w.Hostname, d.dst.Addr().Is6()
	if s != nil {
		p.Families = s.Families
	}
}

// throughGateway plans for what is behind the gateway of another network: w, which stands for the endpoints of s there. Only what the
// service says may be at the far end is believed there, for the gateway sees the outer tunnel alone.
func (d *decision) throughGateway(w *mesh.Workload, s *mesh.Service, last []string) (Plan, *Refusal) {
	p := Plan{Via: DoubleHBONE, Target: hostPort(s.Hostname, d.dst.Port()), Last: parse(last), Service: s, Endpoint: w, Picked: w.UID}
	if w.NetworkGateway == nil {
		return p, unavailable(ReasonNoGateway, "endpoint %s is in network %q, which has no gateway", w.UID, w.Network)
	}
	gateway := *w.NetworkGateway
	p.Gateway = gateway
	port := cmp.Or(gateway.Port, mesh.HBONEPort)
	if gateway.Hostname.Hostname != "" {
		if host := d.view.WorkloadNamed(gateway.Hostname); host != nil {
			d.byName(&p, host, nil)
			p.Dial, p.Next = netip.AddrPortFrom(netip.Addr{}, port), identities(host, nil)
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
	p.GatewayPicked, p.GatewayOthers = e.Workload.UID, e.Others
	return p, nil
}

// waypoint is a waypoint that was looked up: a service with its endpoints, or a single workload.
type waypoint struct {
	service  *mesh.Service
	workload *mesh.Workload
	port     uint16
}

func (w waypoint) exists() bool { return w.service != nil || w.workload != nil }

// waypoint finds the waypoint to pass: of several by weight, else the one at an address. There is none to pass if the source is one of
// them itself: what comes out of it goes to the endpoint.
func (d *decision) waypoint(at *mesh.GatewayAddress, several []mesh.WeightedWaypoint) waypoint {
	total := uint64(0)
	for i := range several {
		total += uint64(several[i].Weight)
	}
	if total == 0 {
		if at == nil || d.is(d.waypointAt(at)) {
			return waypoint{}
		}
		return d.waypointAt(at)
	}
	for i := range several {
		if d.is(d.waypointAt(&several[i].At)) {
			return waypoint{}
		}
	}
	by := d.choice.Random(total)
	for i := range several {
		weight := uint64(several[i].Weight)
		if by < weight {
			return d.waypointAt(&several[i].At)
		}
		by -= weight
	}
	return waypoint{}
}

// is says whether the source is this waypoint.
func (d *decision) is(w waypoint) bool {
	if w.service != nil {
		_, itself := d.src.Workload.Services[w.service.Key()]
		return itself
	}
	return w.workload != nil && w.workload.UID == d.src.Workload.UID
}

func (d *decision) waypointAt(at *mesh.GatewayAddress) waypoint {
	w := waypoint{port: cmp.Or(at.Port, mesh.HBONEPort)}
	if at.Hostname.Hostname != "" {
		if w.service = d.view.Service(at.Hostname); w.service == nil {
			w.workload = d.view.WorkloadNamed(at.Hostname)
		}
	} else {
		w.service = d.view.ServiceAt(at.Addr.Network, at.Addr.Addr, d.src.Workload.Namespace)
		if w.service == nil {
			w.workload = d.view.WorkloadAt(at.Addr.Network, at.Addr.Addr)
		}
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
	if w.workload != nil && w.workload.Network != d.src.Network {
		return Plan{Service: s}, unavailable(ReasonNoWaypoint, "waypoint %s is a single workload of network %q", w.workload.UID, w.workload.Network)
	}
	if w.workload != nil {
		p := Plan{Via: HBONE, Target: target, Next: identities(w.workload, nil), Service: s, Endpoint: w.workload}
		addr, ok := directory.Address(w.workload, mesh.FamiliesAny, d.dst.Addr().Is6())
		if !ok {
			if w.workload.Hostname == "" {
				return Plan{Service: s}, unavailable(ReasonNoWaypoint, "waypoint %s has no address", w.workload.UID)
			}
			d.byName(&p, w.workload, nil)
		}
		p.Dial = netip.AddrPortFrom(addr, w.port)
		return p, nil
	}
	want := d.want(w.service, w.port)
	want.LocalOnly = s == nil // a single pod has no name that a gateway would know
	e, ok := directory.Pick(d.view, want)
	if !ok {
		refusal := d.missed(want)
		refusal.Reason = ReasonNoWaypoint
		refusal.Err = fmt.Errorf("waypoint %s cannot be used: %w", w.service.Key(), refusal.Err)
		return Plan{Service: s}, refusal
	}
	if e.Remote(d.src.Network) {
		p, refusal := d.throughGateway(e.Workload, s, w.service.SANs)
		p.Others = e.Others
		return p, refusal
	}
	p := Plan{
		Via: HBONE, Dial: netip.AddrPortFrom(e.Addr, e.Port.Target), Target: target, Next: identities(e.Workload, w.service),
		Service: s, Endpoint: e.Workload, Picked: e.Workload.UID, Others: e.Others,
	}
	if !e.Addr.IsValid() {
		d.byName(&p, e.Workload, w.service)
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
