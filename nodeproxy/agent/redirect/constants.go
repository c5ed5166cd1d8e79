// SPDX-License-Identifier: Apache-2.0

package redirect

import "net/netip"

// Marks. Only the low 12 bits are looked at and written, so that others may use the rest.
const (
	// MarkProxy is the SO_MARK of every socket of the proxy: what it sends is not captured again.
	MarkProxy = 0x539
	// MarkReply is the connection mark of what the proxy opened toward the local application with the client's address as its
	// source; the application's answers carry it and are delivered locally instead of to the true owner of that address.
	MarkReply = 0x111
	markMask  = 0xfff
)

// Ports of the proxy inside the pod's namespace.
const (
	PortOutbound = 15001 // what the application opens
	PortInbound  = 15006 // plaintext that comes in
	PortTunnel   = 15008 // HBONE that comes in; never redirected, its listener is reached directly
	PortDNS      = 15053 // DNS over UDP and TCP that the application sends
)

// Policy routing: packets with MarkReply look into this table, where everything is local.
const (
	routeTable   = 100
	rulePriority = 32764
)

// ProbeSource is the source address that the node gives to the kubelet's probes of enrolled pods. A pod's rules let it pass by the
// mesh. Addresses are link-local and unique-local ones that nobody else uses; ztunnel's agent has the same.
var (
	ProbeSourceV4 = netip.MustParseAddr("169.254.7.127")
	ProbeSourceV6 = netip.MustParseAddr("fd16:9254:7127:1337:ffff:ffff:ffff:ffff")
)

// Tables of ours, in the pod's namespace and (tableProbes) in the node's.
const (
	tableNAT    = "isthmus-nat"
	tableMangle = "isthmus-mangle"
	tableRaw    = "isthmus-raw"
	tableZone   = "isthmus-zone"
	tableProbes = "isthmus-probes"
)
