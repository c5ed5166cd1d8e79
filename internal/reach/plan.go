// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Via is how a connection travels.
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

// Plan is one connection, decided. It is a value: diff it, print it, test it.
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
	// Several says that Dial is one of several addresses that Host turned out to have.
	Several bool

	Next []mesh.Identity // any one of these the next hop must prove
	Last []mesh.Identity // DoubleHBONE only: any one of these the last hop must prove

	// Service is what was meant, and Endpoint who was picked for it; nil when not known.
	Service  *mesh.Service
	Endpoint *mesh.Workload
	// Port is the service's port at the endpoint, as far as it is known here.
	Port mesh.Port
	// Picked is the UID to avoid when this plan fails, so that another one may be made; empty if there was no choice.
	Picked string
	// Others says that another one could be made.
	Others bool
	// Behind says, of a DoubleHBONE, how many endpoints are behind all gateways of that network together, as far as discovery knows.
	Behind uint32
	// Gateway is the one that a DoubleHBONE passes; the zero value otherwise. GatewayPicked is the UID of the endpoint that was picked if it
	// is a service, and GatewayOthers says that it has another one.
	Gateway       mesh.GatewayAddress
	GatewayPicked string
	GatewayOthers bool
}

// dialled is the endpoint if the only tunnel ends at its own address, or nil.
func (p Plan) dialled() *mesh.Workload {
	if e := p.Endpoint; p.Via == HBONE && e != nil && slices.Contains(e.Addresses, p.Dial.Addr()) {
		return e
	}
	return nil
}

// Identities are those that may stand at a workload's address: its own, and those that the service vouches for.
func Identities(w *mesh.Workload, s *mesh.Service) []mesh.Identity {
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

// HostPort is an authority.
func HostPort(host string, port uint16) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(addr, port).String()
	}
	return host + ":" + strconv.Itoa(int(port))
}
