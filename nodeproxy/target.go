// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// target is what an authority means for the local pod. Without a refusal, At and Dial are valid.
type target struct {
	// At is the pod's own address and port that policies are asked about.
	At netip.AddrPort
	// Dial is where the application is: At, or the same port on loopback if the pod has an application tunnel.
	Dial netip.AddrPort
	// Service is the one that was named; nil if an address was.
	Service *mesh.Service
	// Proxy says that the application is told of the connection first, with Meant as its destination.
	Proxy bool
	Meant netip.AddrPort
}

// resolveTarget finds what an authority means for the local pod: a port of the pod itself. It is pure.
//
// An address must be the pod's own, or that of somebody whose waypoint the pod is. A service must be known by that name, and the pod must
// be one of its endpoints, or its waypoint: a tunnel that was sent to the wrong pod, whatever the reason, ends here. Addresses that are nobody's are
// taken only by an application that is told which one was meant.
func resolveTarget(v *directory.View, self *mesh.Workload, local netip.Addr, authority string) (target, *Refusal) {
	host, portText, err := net.SplitHostPort(authority)
	if err != nil || host == "" {
		return target{}, refuse(http.StatusBadRequest, reach.ReasonBadTarget, "authority %q is not host:port", authority)
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || number == 0 {
		return target{}, refuse(http.StatusBadRequest, reach.ReasonBadTarget, "authority %q has no usable port", authority)
	}
	asked := uint16(number)
	var t target
	port := asked
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		if addr != local && !standsAt(v, self, addr) {
			return t, refuse(http.StatusBadRequest, reach.ReasonBadTarget, "authority %q is not an address of %s/%s (%v)", authority, self.Namespace, self.Name, local)
		}
		t.Meant = netip.AddrPortFrom(addr.WithZone(""), asked)
	} else {
		var refusal *Refusal
		if t.Service, port, refusal = servedPort(v, self, host, asked); refusal != nil {
			return t, refusal
		}
		t.Meant = netip.AddrPortFrom(vip(t.Service, self.Network, local), asked)
	}
	tunnel := self.AppTunnel
	if tunnel != nil && tunnel.Port != 0 {
		port = tunnel.Port
	}
	if ownPort(port) || tunnel != nil && port == dnsPort { // which is listened on where the application tunnel leads, and asks servers for the pod
		return t, unavailable(ReasonOwnPort, "port %d is the proxy's own", port)
	}
	t.At = netip.AddrPortFrom(local, port)
	if t.Dial = t.At; tunnel != nil {
		t.Dial, t.Proxy = netip.AddrPortFrom(loopback(local), port), tunnel.Proxy
	}
	return t, nil
}

// beyond says why a stream that came through a gateway must not go to a target; nil: it may. The gateway decided whether its peer may reach the service that it was asked for, and
// cannot read what is asked for in the tunnel inside: so that the answer is for nothing else than what it exports, whoever is inside may ask for no more than that.
func beyond(gateway *mesh.Workload, t target) *Refusal {
	switch {
	case gateway == nil || t.Service != nil && t.Service.Exported:
		return nil
	case t.Service == nil:
		return unavailable(ReasonNotExported, "%v was asked for by its address through gateway %s/%s, which leads to exported services only", t.At, gateway.Namespace, gateway.Name)
	default:
		return unavailable(ReasonNotExported, "service %s was asked for through gateway %s/%s, and is not exported", t.Service.Key(), gateway.Namespace, gateway.Name)
	}
}

// outside says why a stream must not go to a target in a tunnel that is confined to something; nil: it may, or the tunnel is not.
func outside(confined string, t target) *Refusal {
	if confined == "" || t.Service != nil && reach.Confinement(t.Service.Key(), t.Meant.Port()) == confined {
		return nil
	}
	return refuse(statusDenied, ReasonNotAdmitted, "what was asked for in a tunnel that the gateway before us let in for %q alone is something else", confined)
}

// servedPort finds the service of a name, and the pod's port for one of its ports.
func servedPort(v *directory.View, self *mesh.Workload, host string, port uint16) (*mesh.Service, uint16, *Refusal) {
	service := v.ServiceNamed(host, self.Namespace)
	if service == nil {
		return nil, 0, unavailable(ReasonUnknownService, "service %s is not known", host)
	}
	if _, endpoint := self.Services[service.Key()]; !endpoint {
		if !fronts(v, self, service) {
			return service, 0, unavailable(ReasonNotEndpoint, "%s/%s is not an endpoint of %s", self.Namespace, self.Name, service.Key())
		}
		if _, known := service.Port(port); !known {
			return service, 0, unavailable(ReasonUnknownService, "service %s has no port %d", service.Key(), port)
		}
		return service, port, nil // a waypoint is asked for the service's port, as by those who name its VIP
	}
	at, ok := directory.EndpointPort(service, self, port)
	if !ok {
		return service, 0, unavailable(ReasonUnknownService, "service %s has no port %d at %s/%s", service.Key(), port, self.Namespace, self.Name)
	}
	return service, at.Target, nil
}

// standsAt says whether the pod takes connections to an address that is not its own.
func standsAt(v *directory.View, self *mesh.Workload, addr netip.Addr) bool {
	told := self.AppTunnel != nil && self.AppTunnel.Proxy
	of := func(s *mesh.Service) bool {
		_, endpoint := self.Services[s.Key()]
		return fronts(v, self, s) || told && endpoint
	}
	if s := v.ServiceAt(self.Network, addr, self.Namespace); s != nil {
		return of(s)
	}
	if w := v.OwnerAt(self.Network, addr); w != nil {
		return isWaypoint(v, self, w.Waypoint)
	}
	if s := v.ServiceOver(self.Network, addr, self.Namespace); s != nil {
		return of(s)
	}
	return told
}

// fronts says whether the pod is a waypoint of the service.
func fronts(v *directory.View, self *mesh.Workload, s *mesh.Service) bool {
	return isWaypoint(v, self, s.Waypoint) || slices.ContainsFunc(s.Waypoints, func(w mesh.WeightedWaypoint) bool { return isWaypoint(v, self, &w.At) })
}

// isWaypoint says whether the pod is (an endpoint of) the waypoint that is found there.
func isWaypoint(v *directory.View, self *mesh.Workload, at *mesh.GatewayAddress) bool {
	switch {
	case at == nil:
		return false
	case at.Hostname.Hostname != "":
		_, endpoint := self.Services[at.Hostname]
		return endpoint || at.Hostname == mesh.ServiceKey{Namespace: self.Namespace, Hostname: self.Hostname}
	case at.Addr.Network == self.Network && slices.Contains(self.Addresses, at.Addr.Addr.Unmap()):
		return true
	}
	s := v.ServiceAt(at.Addr.Network, at.Addr.Addr, self.Namespace)
	if s == nil {
		return false
	}
	_, endpoint := self.Services[s.Key()]
	return endpoint
}

// vip is the address by which an application is told that a service was meant: one of the pod's network and of the tunnel's family if there is one. A service
// without any is told as the pod's own.
func vip(s *mesh.Service, network string, local netip.Addr) netip.Addr {
	best, rank := local, -1
	for _, a := range s.Addresses {
		r := 0
		if a.Network == network {
			r += 2
		}
		if a.Addr.Unmap().Is4() == local.Is4() {
			r++
		}
		if r > rank {
			best, rank = a.Addr.Unmap(), r
		}
	}
	return best
}

func loopback(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
