// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"net/http"
)

// Reason is why a connection was refused: the word in the access log and in the metrics' response_flags. Those that ztunnel has too
// are spelled as there.
type Reason string

const (
	// ReasonNone is a connection that ended well.
	ReasonNone Reason = "-"
	// ReasonDenied: a policy says no.
	ReasonDenied Reason = "DENY"
	// ReasonConnect: the next hop could not be connected.
	ReasonConnect Reason = "CONNECT"
	// ReasonTLS: the next hop, or the peer, did not prove what it had to.
	ReasonTLS Reason = "TLS_FAILURE"
	// ReasonCertRevoked: the next hop's certificate, or the peer's, was revoked, before or while the connection was open.
	ReasonCertRevoked Reason = "CERT_REVOKED"
	// ReasonTunnel: HTTP/2 failed, or the far end of the tunnel said no.
	ReasonTunnel Reason = "H2_HANDSHAKE_FAILURE"
	// ReasonIdentity: there is no certificate for the local workload.
	ReasonIdentity Reason = "IDENTITY_ERROR"
	// ReasonNoWorkload: the control plane has not told us of the local pod.
	ReasonNoWorkload Reason = "NO_WORKLOAD"
	// ReasonNoEndpoint: the service is known, but has no usable endpoint left to try.
	ReasonNoEndpoint Reason = "NO_HEALTHY_UPSTREAM"
	// ReasonNoPort: the service, or each of its endpoints, does not have the port that was dialled.
	ReasonNoPort Reason = "NO_SUCH_PORT"
	// ReasonWrongFamily: no endpoint has an address of a family that the service allows.
	ReasonWrongFamily Reason = "WRONG_IP_FAMILY"
	// ReasonTooFar: the service insists on near endpoints, and has none.
	ReasonTooFar Reason = "NO_NEAR_ENDPOINT"
	// ReasonNoWaypoint: the waypoint that traffic must pass is not known, or has no usable endpoint.
	ReasonNoWaypoint Reason = "NO_WAYPOINT"
	// ReasonNoGateway: the endpoint is in another network whose gateway is not known.
	ReasonNoGateway Reason = "NO_GATEWAY"
	// ReasonBadTarget: the authority cannot be read, or names an address that is not this pod's.
	ReasonBadTarget Reason = "BAD_TARGET"
	// ReasonUnknownService: the authority names a service, or a port of it, that is not known here.
	ReasonUnknownService Reason = "UNKNOWN_SERVICE"
	// ReasonNotEndpoint: this pod is not an endpoint of the service that the authority names.
	ReasonNotEndpoint Reason = "NOT_AN_ENDPOINT"
	// ReasonOwnPort: the connection would lead back into the proxy's own listeners.
	ReasonOwnPort Reason = "PROXY_PORT"
	// ReasonRevoked: the connection was open, and policy turned against it.
	ReasonRevoked Reason = "POLICY_CHANGED"
	// ReasonDrain: the proxy's drain time ended, or the pod went away.
	ReasonDrain Reason = "DRAINED"
	// ReasonBroken: the connection failed after it was established.
	ReasonBroken Reason = "BROKEN"
)

// Refusal is a connection that is not to be, in its three faces: what the peer is told (Status), what the operator and the counters
// are told (Reason), and the detail (Err).
type Refusal struct {
	// Status is the answer to a CONNECT; it means nothing where the peer speaks plain TCP.
	Status int
	Reason Reason
	Err    error
}

// Error names the reason and the detail.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %v", r.Reason, r.Err) }

// Unwrap gives the detail.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(status int, reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Reason: reason, Err: fmt.Errorf(format, args...)}
}

func unavailable(reason Reason, format string, args ...any) *Refusal {
	return refuse(http.StatusServiceUnavailable, reason, format, args...)
}
