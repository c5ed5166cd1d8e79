// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"encoding/binary"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The PROXY protocol, version 2 (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, §2.2).
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyCommand   = 0x21 // version 2, PROXY
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
	// The two types of our own, from the range for applications: those of ztunnel's application tunnel.
	proxyIdentity = 0xd0 // SPIFFE id that the caller proved
	proxyService  = 0xd1 // hostname of the service that was meant
)

// proxyHeader tells an application who calls whom: addresses, the identity that the caller proved, and the service if one was named. Addresses of two families are
// both told as IPv6.
func proxyHeader(source, destination netip.AddrPort, peer mesh.Identity, service *mesh.Service) []byte {
	var body []byte
	kind := byte(proxyTCP4)
	if from, to := source.Addr().Unmap(), destination.Addr().Unmap(); from.Is4() && to.Is4() {
		body = append(from.AsSlice(), to.AsSlice()...)
	} else {
		kind = proxyTCP6
		a, b := from.As16(), to.As16()
		body = append(a[:], b[:]...)
	}
	body = binary.BigEndian.AppendUint16(body, source.Port())
	body = binary.BigEndian.AppendUint16(body, destination.Port())
	add := func(kind byte, value string) {
		if value == "" {
			return
		}
		body = append(body, kind)
		body = binary.BigEndian.AppendUint16(body, uint16(len(value)))
		body = append(body, value...)
	}
	add(proxyIdentity, peer.String())
	if service != nil {
		add(proxyService, service.Hostname)
	}
	out := append([]byte(proxySignature), proxyCommand, kind)
	out = binary.BigEndian.AppendUint16(out, uint16(len(body)))
	return append(out, body...)
}
