// SPDX-License-Identifier: Apache-2.0

package mesh

// GatewayKey names a Gateway object.
type GatewayKey struct{ Namespace, Name string }

// String gives "namespace/name", the gateway's name on the discovery wire.
func (k GatewayKey) String() string { return k.Namespace + "/" + k.Name }

// ListenerProtocol is what a gateway's listener speaks.
type ListenerProtocol uint8

const (
	// ListenerHBONE ends outer tunnels and forwards their streams, unread, to endpoints of exported services.
	ListenerHBONE ListenerProtocol = iota + 1
	// ListenerHTTP takes HTTP/1.1 and HTTP/2 without TLS, and routes requests.
	ListenerHTTP
	// ListenerHTTPS ends TLS, takes HTTP/1.1 and HTTP/2 inside it, and routes requests.
	ListenerHTTPS
)

// HTTP says whether requests are routed.
func (p ListenerProtocol) HTTP() bool { return p == ListenerHTTP || p == ListenerHTTPS }

// Together says whether listeners of both protocols may share a port, if their hostnames tell them apart: of what begins with TLS, its ClientHello has the name.
func (p ListenerProtocol) Together(other ListenerProtocol) bool {
	named := func(p ListenerProtocol) bool { return p == ListenerHTTPS || p.TLS() }
	return p == other || named(p) && named(other)
}

// Listener is a port of a gateway, or a part of one: listeners for HTTP, or for HTTPS and TLS, share a port if their hostnames differ.
type Listener struct {
	Name string
	// Port is the Gateway's port, the one peers see; Bind the one that the process listens on
	// (the same, or above 1024 for a privileged Port).
	Port, Bind uint16
	Protocol   ListenerProtocol
	// Hostname is exact, or has a wildcard in front ("*.example.com"); empty: every host. Of the listeners of a port, the one whose
	// hostname fits a request or a connection best takes it, and no other one does.
	Hostname string
	// Certificates are for HTTPS and for TLS that ends here; a listener without any refuses every handshake.
	Certificates []Certificate
	// Clients is for HTTPS: what clients prove; nil: nothing.
	Clients *ClientValidation
	// Routes are those that attach, the one that counts first in a tie first. One route may be in several listeners.
	Routes []*HTTPRoute
	// TLSRoutes are those that attach to a listener for TLS.
	TLSRoutes []*TLSRoute
	// Stream is for TCP and UDP; nil: nothing is passed on.
	Stream *StreamRoute
}

// Gateway is the configuration of one gateway deployment.
type Gateway struct {
	Namespace, Name string
	Network         string
	ServiceAccount  string
	Listeners       []Listener
	// Exports are the services that peers in other networks may reach through this gateway, sorted.
	Exports []ServiceKey
	// TrustDomains are those whose identities may use the gateway, sorted.
	TrustDomains []string
	// Policies judge every stream, whatever it asks for, sorted by key. Their Scope means nothing here.
	Policies []*Policy
	// ServicePolicies judge, together with Policies, the streams to single services, exported or behind the waypoint; sorted by service.
	ServicePolicies []ServicePolicies
	// Service is the one in front of the gateway's own pods, if it is a waypoint: workloads whose Waypoint leads there are behind it, too.
	Service ServiceKey
	// Fronts are the services that a waypoint stands in front of, sorted.
	Fronts []ServiceKey
	// Consumed are those of Fronts that a waypoint stands in front of for callers of its own namespace, and for nobody else; sorted.
	Consumed []ServiceKey
	// ServiceRoutes are the routes at services that a waypoint stands in front of, sorted (CompareServiceRoutes).
	ServiceRoutes []ServiceRoutes
	// BackendTLS says which backends are spoken to in TLS, each once, sorted (CompareBackendTLS).
	BackendTLS []BackendTLS
	// ClientCertificate is what the gateway proves to them; nil: nothing.
	ClientCertificate *Certificate
}

// ServicePolicies are the policies for one service, sorted by key. Their Scope means nothing here.
type ServicePolicies struct {
	Service  ServiceKey
	Policies []*Policy
}

// Key names the gateway.
func (g *Gateway) Key() GatewayKey { return GatewayKey{Namespace: g.Namespace, Name: g.Name} }
