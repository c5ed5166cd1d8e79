// SPDX-License-Identifier: Apache-2.0

package mesh

import "net/netip"

// Protocols of listeners that look at connections or datagrams only.
const (
	// ListenerTLS looks at the server name of TLS connections and passes them on, unread, to the backends of the route that has the name.
	ListenerTLS ListenerProtocol = 4
	// ListenerTCP passes connections on to the backends of its route.
	ListenerTCP ListenerProtocol = 6
	// ListenerUDP passes datagrams on to the backends of its route, those of one client to one endpoint, and back.
	ListenerUDP ListenerProtocol = 7
	// ListenerTLSTerminate ends TLS, and passes on what is inside to the backends of the route that has the connection's server name. It shares a
	// port with ListenerTLS by hostnames.
	ListenerTLSTerminate ListenerProtocol = 8
)

// TLS says whether connections are told apart by their server names, and what is inside is not looked at.
func (p ListenerProtocol) TLS() bool { return p == ListenerTLS || p == ListenerTLSTerminate }

// StreamRoute is the TCPRoute or UDPRoute that has a listener: of several that attach, the oldest.
type StreamRoute struct {
	Namespace, Name string
	// Backends share connections, or clients of UDP, by weight. None, or no weight at all: they are refused.
	Backends []StreamBackend
}

// StreamBackend is where connections or datagrams go.
type StreamBackend struct {
	Service ServiceKey
	Port    uint16 // of the service
	Weight  uint32
	// Problem, if not empty, says why there is no such backend: what is its share is refused.
	Problem string
	// Endpoints are those of a UDPRoute's backend that are ready, sorted. The mesh carries no UDP, so nothing else tells of them.
	Endpoints []netip.AddrPort
}
