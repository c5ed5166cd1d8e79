// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"net/netip"
	"strconv"
)

// HBONEPort is where node proxies, waypoints and gateways accept HBONE unless configured otherwise.
const HBONEPort = 15008

// Tunnel says how a workload wants to be reached.
type Tunnel uint8

const (
	// TunnelNone is plain TCP.
	TunnelNone Tunnel = iota
	// TunnelHBONE is a CONNECT over mutual TLS to HBONEPort of the workload.
	TunnelHBONE
)

// WorkloadKind is the kind of object that made the workload, for telemetry.
type WorkloadKind uint8

const (
	KindDeployment WorkloadKind = iota
	KindCronJob
	KindPod
	KindJob
)

// Locality is where a workload runs; empty parts are unknown.
type Locality struct {
	Region, Zone, Subzone string
}

// ServiceKey names a service: two clusters' services with the same key are the same service.
type ServiceKey struct {
	Namespace string
	Hostname  string // full name, such as "cart.shop.svc.cluster.local"
}

// String gives "namespace/hostname", the service's name on the discovery wire.
func (k ServiceKey) String() string { return k.Namespace + "/" + k.Hostname }

// NetworkAddress is an IP address, which means something only within its network.
type NetworkAddress struct {
	Network string
	Addr    netip.Addr
}

// NetworkRange is a range of IP addresses, which mean something only within their network.
type NetworkRange struct {
	Network string
	Prefix  netip.Prefix // of IPv4, or of IPv6; no bit beyond its length is set
}

// GatewayAddress says where a gateway or waypoint is found: by address, or by the name of a service or workload.
// Exactly one of Addr and Hostname is set.
type GatewayAddress struct {
	Addr     NetworkAddress
	Hostname ServiceKey
	Port     uint16 // HBONE port of the gateway
}

// GatewayUID is the uid of the workload that stands for a network's gateway itself, as istiod makes it: by the gateway's address or hostname and its HBONE port. 0 is of one whose port istiod does
// not say, and which is at HBONEPort.
func GatewayUID(network, address string, port uint16) string {
	return "NetworkGateway/" + network + "/" + address + "/" + strconv.Itoa(int(port))
}

// Port maps a service's port to that of its endpoints.
type Port struct {
	Service uint16 // what clients dial
	Target  uint16 // what the endpoint listens on; 0 in a Service means "see the endpoint" (named port)
	App     AppProtocol
	// Name is the port's in its Service, for SRV records; endpoints' ports have none.
	Name string
}

// AppProtocol is what is spoken inside the connection, as far as anybody said.
type AppProtocol uint8

const (
	AppUnknown AppProtocol = iota
	AppHTTP11
	AppHTTP2
	AppGRPC
	AppTCP
	AppTLS
)

// Workload is one endpoint: a pod of this network, a gateway, or all healthy pods of one service behind one
// gateway of another network (a split-horizon workload, which has a NetworkGateway and no Addresses).
type Workload struct {
	UID             string // unique over all clusters; also the name on the discovery wire
	Name, Namespace string
	Addresses       []netip.Addr
	Hostname        string
	Network         string
	Cluster         string
	Tunnel          Tunnel
	TrustDomain     string
	ServiceAccount  string
	Node            string
	HostNetwork     bool
	Unhealthy       bool
	Capacity        uint32 // relative weight among endpoints; the number of healthy pods for a split-horizon workload
	Services        map[ServiceKey][]Port
	NetworkGateway  *GatewayAddress
	Waypoint        *GatewayAddress
	Locality        Locality
	// AppTunnel is set for one that stands for others, such as a waypoint without an HBONE listener of its own.
	AppTunnel *AppTunnel
	// Gateway says that it is a Gateway's: what comes from its address may be somebody else's, whom only TLS inside tells.
	Gateway bool
	// Confines says that its node proxy is told, and minds, for which service a gateway let in a connection that it passes on.
	Confines bool
	// Policies are the "namespace/name" of workload-selector policies that apply.
	Policies []string

	CanonicalName, CanonicalRevision string
	WorkloadName                     string
	Kind                             WorkloadKind
}

// AppTunnel is how the node proxy of a workload hands over to it what came in tunnels.
type AppTunnel struct {
	// Port takes all of it; 0: the port that was asked for.
	Port uint16
	// Proxy says that it wants to be told who calls whom, by the PROXY protocol.
	Proxy bool
}

// Identity is what the workload's certificate must prove.
func (w *Workload) Identity() Identity {
	return Identity{TrustDomain: w.TrustDomain, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount}
}
