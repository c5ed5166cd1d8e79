// SPDX-License-Identifier: Apache-2.0

package gateway

import "fmt"

// Reason is why a stream was refused or ended badly: a constant word, the same in the answer's x-isthmus-reason header, in the
// access log, and as a metric's label.
type Reason string

const (
	// ReasonBadAuthority: the CONNECT names no host and port.
	ReasonBadAuthority Reason = "bad_authority"
	// ReasonTrustDomain: the peer's trust domain may not use this gateway.
	ReasonTrustDomain Reason = "trust_domain_not_allowed"
	// ReasonDenied: a policy of this gateway, or of the service, denies the peer, or none of them allows it.
	ReasonDenied Reason = "denied_by_policy"
	// ReasonRevoked: the stream was carried, or about to be, and a change of policy turned against it.
	ReasonRevoked Reason = "policy_changed"
	// ReasonExpired: the certificate that the peer proved itself with when it connected has ended since.
	ReasonExpired Reason = "certificate_expired"
	// ReasonNamespace: the service may be used from its own namespace only.
	ReasonNamespace Reason = "namespace_not_allowed"
	// ReasonNotConsumer: a waypoint stands in front of the service for callers of its own namespace only.
	ReasonNotConsumer Reason = "not_a_consumer"
	// ReasonNotExported: the name or address is not that of a service that this gateway exports.
	ReasonNotExported Reason = "not_exported"
	// ReasonNotBehind: the name or address is that of nothing that this waypoint stands in front of.
	ReasonNotBehind Reason = "not_behind_this_waypoint"
	// ReasonUnknownPort: the service has no such port.
	ReasonUnknownPort Reason = "unknown_port"
	// ReasonNoEndpoint: no endpoint of the service is ready: in this network or, for a waypoint, in any.
	ReasonNoEndpoint Reason = "no_endpoint"
	// ReasonConnect: endpoints were there, but none could be connected to in time.
	ReasonConnect Reason = "connect_failed"
	// ReasonBackendTLS: endpoints were there, but none was taken for what a BackendTLSPolicy wants it to be, or nothing is by the policy.
	ReasonBackendTLS Reason = "backend_tls_failed"
	// ReasonOverload: the gateway, or this peer at it, carries as many streams as it may.
	ReasonOverload Reason = "too_many_streams"
	// ReasonServiceOverload: as many streams as may be go to the service, or wait for its endpoints.
	ReasonServiceOverload Reason = "too_many_streams_to_service"
	// ReasonNotTLS: a connection to a port for TLS did not begin with a ClientHello that can be read.
	ReasonNotTLS Reason = "not_tls"
	// ReasonHandshake: the client of a port that ends TLS did not end its handshake, or the listener has no certificate.
	ReasonHandshake Reason = "handshake_failed"
	// ReasonIdle: nothing passed for a long time.
	ReasonIdle Reason = "idle"
	// ReasonNoRoute: no TLSRoute has the name that the client asks for, or the port has no route.
	ReasonNoRoute Reason = "no_route"
	// ReasonNoBackend: the route's backend does not exist, or it has none.
	ReasonNoBackend Reason = "no_backend"
	// ReasonLoop: what came is from a socket of the gateway's own: the route leads back to it.
	ReasonLoop Reason = "loop"
	// ReasonNoConfig: the gateway has not been told yet what it exports.
	ReasonNoConfig Reason = "no_configuration"
	// ReasonClientGone: the client gave up before it was answered.
	ReasonClientGone Reason = "client_gone"
	// ReasonAborted: the stream was answered and later broke.
	ReasonAborted Reason = "aborted"
	// ReasonUntrusted: the stream was answered, and the client's certificate was revoked later, or its root taken away.
	ReasonUntrusted Reason = "untrusted"
	// ReasonDrained: the stream was cut because the time for draining was over.
	ReasonDrained Reason = "drained"
)

// Refusal is a stream that is not carried: what the peer is told, what the operator is told, and what is counted.
type Refusal struct {
	Status int // of the CONNECT: 400 the request is wrong, 401 the peer may not, 503 not here or not now
	Reason Reason
	Err    error // the detail, for the log only; may be nil
}

// Error gives status, reason and detail.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return fmt.Sprintf("refused with %d: %s", r.Status, r.Reason)
	}
	return fmt.Sprintf("refused with %d: %s: %v", r.Status, r.Reason, r.Err)
}

// Unwrap gives the detail.
func (r *Refusal) Unwrap() error { return r.Err }
