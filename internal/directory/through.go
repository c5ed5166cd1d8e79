// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Through gives the gateway that a tunnel came through, which cannot read it: its TCP connection comes from a gateway's address, and what its TLS proved
// is not the gateway's identity, for which is says so. nil: it came straight from its peer, as far as is known. A gateway on the host network has others at its address.
func (v *View) Through(network string, from netip.Addr, is func(mesh.Identity) bool) *mesh.Workload {
	var gateway *mesh.Workload
	all, _ := v.byAddress.get(mesh.NetworkAddress{Network: network, Addr: from.Unmap()})
	for _, w := range all {
		switch {
		case !w.Gateway:
		case is(w.Identity()):
			return nil
		case gateway == nil:
			gateway = w
		}
	}
	return gateway
}
