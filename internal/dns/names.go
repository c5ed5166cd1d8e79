// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxLabel bounds one part of a name, in bytes (RFC 1035, section 2.3.4).
const maxLabel = 63

// pod finds one endpoint of a service by "pod.service.namespace.svc.domain", as pods of a StatefulSet know each other.
//
// A pod may have been given another hostname than its name, which we are not told. The cluster's own server knows it, and has all pods of
// this cluster, so what is not found here is not missed.
func (c Client) pod(v *directory.View, name string) (Answer, Found) {
	label, host, ok := strings.Cut(name, ".")
	if !ok || !c.ours(name) {
		return Answer{}, Unknown
	}
	s := v.ServiceNamed(host, c.Namespace)
	if s == nil {
		return Answer{}, Unknown
	}
	a := Answer{Hostname: name, TTL: podTTL}
	var elsewhere []netip.Addr
	for _, w := range c.endpoints(v, s) {
		switch {
		case podLabel(w) != label:
		case w.Cluster == c.Cluster:
			a.Addresses = append(a.Addresses, podAddresses(w, s)...)
		default:
			elsewhere = append(elsewhere, podAddresses(w, s)...)
		}
	}
	if len(a.Addresses) == 0 {
		a.Addresses = elsewhere
	}
	if len(a.Addresses) == 0 {
		return Answer{}, Unknown
	}
	a.Addresses = distinct(a.Addresses)
	return a, Known
}

// podLabel is what an endpoint is called below its service: the pod's name, or its address where there is no name that fits
// ("10-0-0-7", as CoreDNS has it).
func podLabel(w *mesh.Workload) string {
	if w.Name != "" && len(w.Name) <= maxLabel && !strings.ContainsAny(w.Name, "./") {
		return w.Name
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(w.Addresses[0].Unmap().String())
}

// reverse finds the service that has an address, by the name under which pointers to names are kept.
func (c Client) reverse(v *directory.View, name string) (Answer, Found) {
	addr, ok := reversed(name)
	if !ok {
		return Answer{}, Unknown
	}
	s := v.ServiceAt(c.Network, addr, c.Namespace)
	if s == nil || strings.HasPrefix(s.Hostname, "*") {
		return Answer{}, Unknown
	}
	return Answer{Hostname: name, Pointer: s.Hostname, TTL: vipTTL, Partial: true}, Known
}

// reversed reads the address in "4.3.2.1.in-addr.arpa" (RFC 1035, section 3.5) or in the 32 digits before "ip6.arpa" (RFC 3596,
// section 2.5).
func reversed(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(digits, ".")
		var addr [4]byte
		if len(parts) != len(addr) {
			return netip.Addr{}, false
		}
		for i, part := range parts {
			n, err := strconv.ParseUint(part, 10, 8)
			if err != nil || strconv.FormatUint(n, 10) != part {
				return netip.Addr{}, false
			}
			addr[len(addr)-1-i] = byte(n)
		}
		return netip.AddrFrom4(addr), true
	}
	if digits, ok := strings.CutSuffix(name, ".ip6.arpa"); ok && len(digits) == 63 {
		parts := strings.Split(digits, ".")
		slices.Reverse(parts)
		if slices.ContainsFunc(parts, func(part string) bool { return len(part) != 1 }) {
			return netip.Addr{}, false
		}
		raw, err := hex.DecodeString(strings.Join(parts, ""))
		if err != nil || len(raw) != 16 {
			return netip.Addr{}, false
		}
		return netip.AddrFrom16([16]byte(raw)), true
	}
	return netip.Addr{}, false
}
