// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
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

// Source is who asks for an outbound connection.
type Source struct {
	// Network is where the pod is: addresses that it dials are looked up in it.
	Network  string
	Workload *mesh.Workload
}

// Decide says where a connection that a pod opens to dst goes. It is pure. The rows in its comments are those of the table in the
// wire's specification (docs/hbone.md §12).
func Decide(v *directory.View, src Source, dst netip.AddrPort, choice Choice) (Plan, *Refusal) {
	to := dst.Addr().Unmap()
	d := decision{From: reach.From{View: v, Network: src.Network, Workload: src.Workload, IPv6: to.Is6(), Choice: choice}, dst: netip.AddrPortFrom(to, dst.Port())}
	if d.dst.Addr().IsLoopback() && ownPort(d.dst.Port()) {
		return Plan{}, unavailable(ReasonOwnPort, "%v is a port of the proxy itself", d.dst)
	}
	if s := v.ServiceAt(src.Network, d.dst.Addr(), src.Workload.Namespace); s != nil {
		return d.toService(s)
	}
	if w := v.OwnerAt(src.Network, d.dst.Addr()); w != nil {
		if waypoint := d.waypoint(w.Waypoint, nil); waypoint.exists() {
			return d.throughWaypoint(waypoint, nil) // row 5
		}
		return d.ToWorkload(w, d.dst, nil), nil // rows 6 and 7
	}
	if s := v.ServiceOver(src.Network, d.dst.Addr(), src.Workload.Namespace); s != nil {
		return d.toService(s)
	}
	return Plan{Via: reach.Direct, Dial: d.dst}, nil // row 8
}

type decision struct {
	reach.From
	dst netip.AddrPort
}

func (d *decision) toService(s *mesh.Service) (Plan, *Refusal) {
	if waypoint := d.waypoint(s.Waypoint, s.Waypoints); waypoint.exists() {
		return d.throughWaypoint(waypoint, s) // rows 1 and 2
	}
	if waypoint := d.consumerWaypoint(s); waypoint.exists() {
		return d.throughWaypoint(waypoint, s) // row 1, for clients of one namespace
	}
	if s.Balance.Mode == mesh.BalancePassthrough {
		return Plan{Via: reach.Direct, Dial: d.dst, Service: s}, nil
	}
	return d.Service(s, d.dst.Port())
}

// consumerWaypoint is the waypoint that the source's own namespace has for its requests to a service that has none itself. A gateway's own connections pass none: it may be
// that waypoint.
func (d *decision) consumerWaypoint(s *mesh.Service) waypoint {
	if d.Workload.Gateway || s.Waypoint != nil || len(s.Waypoints) > 0 {
		return waypoint{}
	}
	return d.waypoint(s.ConsumerWaypoint(d.Workload.Namespace), nil)
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
	by := d.Random(total)
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
		_, itself := d.Workload.Services[w.service.Key()]
		return itself
	}
	return w.workload != nil && w.workload.UID == d.Workload.UID
}

func (d *decision) waypointAt(at *mesh.GatewayAddress) waypoint {
	w := waypoint{port: cmp.Or(at.Port, mesh.HBONEPort)}
	if at.Hostname.Hostname != "" {
		if w.service = d.View.Service(at.Hostname); w.service == nil {
			w.workload = d.View.WorkloadNamed(at.Hostname)
		}
	} else {
		w.service = d.View.ServiceAt(at.Addr.Network, at.Addr.Addr, d.Workload.Namespace)
		if w.service == nil {
			w.workload = d.View.WorkloadAt(at.Addr.Network, at.Addr.Addr)
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
	if w.workload != nil && w.workload.Network != d.Network {
		return Plan{Service: s}, unavailable(ReasonNoWaypoint, "waypoint %s is a single workload of network %q", w.workload.UID, w.workload.Network)
	}
	if w.workload != nil {
		p := Plan{Via: reach.HBONE, Target: target, Next: reach.Identities(w.workload, nil), Service: s, Endpoint: w.workload}
		addr, ok := directory.Address(w.workload, mesh.FamiliesAny, d.dst.Addr().Is6())
		if !ok {
			if w.workload.Hostname == "" {
				return Plan{Service: s}, unavailable(ReasonNoWaypoint, "waypoint %s has no address", w.workload.UID)
			}
			d.ByName(&p, w.workload, nil)
		}
		p.Dial = netip.AddrPortFrom(addr, w.port)
		return p, nil
	}
	want := d.Want(w.service, w.port)
	want.LocalOnly = s == nil // a single pod has no name that a gateway would know
	want.Only = d.mayBeBefore(s)
	e, ok := directory.Pick(d.View, want)
	if !ok {
		refusal := d.Missed(want)
		refusal.Reason = ReasonNoWaypoint
		refusal.Err = fmt.Errorf("waypoint %s cannot be used: %w", w.service.Key(), refusal.Err)
		return Plan{Service: s}, refusal
	}
	if e.Remote(d.Network) {
		p, refusal := d.ThroughGateway(e.Workload, s, d.dst.Port(), w.service.SANs)
		p.Others = e.Others
		return p, refusal
	}
	if s != nil && s.Exported && !d.isOurs(e.Workload) { // which a service that another cluster takes part in is; istiod does not say so, and tells all clusters of a network each other's addresses
		target = reach.HostPort(s.Hostname, d.dst.Port())
	}
	p := Plan{
		Via: reach.HBONE, Dial: netip.AddrPortFrom(e.Addr, e.Port.Target), Target: target, Next: reach.Identities(e.Workload, w.service),
		Service: s, Endpoint: e.Workload, Picked: e.Workload.UID, Others: e.Others,
	}
	if !e.Addr.IsValid() {
		d.ByName(&p, e.Workload, w.service)
	}
	return p, nil
}
