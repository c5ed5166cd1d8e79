// SPDX-License-Identifier: Apache-2.0

package world

import "net/netip"

const (
	// objectSize is about what any object takes: itself, its names, its places in a cache and in a Store, and what is worked out from it. A cluster of 300
	// services and 4,000 endpoints takes 15 to 20 MB (go run ./test/scoreboard discovery-remote-mem), 4 KB for each of these, of which half is taken to be theirs
	// and half the connection's.
	objectSize = 2 << 10
	// endpointSize is about what an endpoint takes besides its addresses.
	endpointSize = 80
	// rareSize is taken for kinds of which an honest cluster has few, each as large as its bounds allow.
	rareSize = 16 << 10
	// addressSize is that of a netip.Addr.
	addressSize = 24
)

// Size is about how many bytes an object takes while it is kept, so that what another cluster has us keep can be bounded. It depends on the object alone.
func Size(o Object) int64 {
	n := objectSize
	switch o := o.(type) {
	case *Pod:
		n += textSize(o.Labels) + addressesSize(o.Addresses)
	case *Service:
		n += textSize(o.Labels) + addressesSize(o.Addresses) + 40*(len(o.Ports)+len(o.UDPPorts))
		for _, s := range o.Ingress {
			n += len(s)
		}
	case *EndpointSlice:
		n += 40 * (len(o.Ports) + len(o.UDPPorts))
		for i := range o.Endpoints {
			n += endpointSize + addressesSize(o.Endpoints[i].Addresses)
		}
	case *Namespace:
		n += textSize(o.Labels)
	case *Gateway, *ServiceScope:
		n += rareSize
	}
	return int64(n)
}

func textSize(labels map[string]string) int {
	n := 0
	for k, v := range labels {
		n += len(k) + len(v) + 40 // two string headers and their share of the map
	}
	return n
}

func addressesSize(a []netip.Addr) int { return addressSize * len(a) }
