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
)

// Listener is one port of a gateway.
type Listener struct {
	Name string
	// Port is the Gateway's port, the one peers see; Bind the one that the process listens on
	// (the same, or above 1024 for a privileged Port).
	Port, Bind uint16
	Protocol   ListenerProtocol
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
	// ServicePolicies judge, together with Policies, the streams to single exported services; sorted by service.
	ServicePolicies []ServicePolicies
}

// ServicePolicies are the policies for one service, sorted by key. Their Scope means nothing here.
type ServicePolicies struct {
	Service  ServiceKey
	Policies []*Policy
}

// Key names the gateway.
func (g *Gateway) Key() GatewayKey { return GatewayKey{Namespace: g.Namespace, Name: g.Name} }
