// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"net/http"

	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// Reason is why a connection was refused, and Refusal one that is not to be: what the peer is told, what the operator and the counters are told, and the detail. What
// is wrong with the way to an endpoint is package reach's to say.
type (
	Reason  = reach.Reason
	Refusal = reach.Refusal
)

// Plan is a connection, decided, and Choice what it may be decided by.
type (
	Plan   = reach.Plan
	Choice = reach.Choice
)

// Reasons besides those of package reach.
const (
	// ReasonNone is a connection that ended well.
	ReasonNone Reason = "-"
	// ReasonNoWorkload: the control plane has not told us of the local pod.
	ReasonNoWorkload Reason = "NO_WORKLOAD"
	// ReasonNoWaypoint: the waypoint that traffic must pass is not known, or has no usable endpoint.
	ReasonNoWaypoint Reason = "NO_WAYPOINT"
	// ReasonUnknownService: the authority names a service, or a port of it, that is not known here.
	ReasonUnknownService Reason = "UNKNOWN_SERVICE"
	// ReasonNotEndpoint: this pod is not an endpoint of the service that the authority names.
	ReasonNotEndpoint Reason = "NOT_AN_ENDPOINT"
	// ReasonNotExported: the connection came through a gateway, and is for something else than an exported service.
	ReasonNotExported Reason = "NOT_EXPORTED"
	// ReasonNotAdmitted: the connection came through a gateway that let it in for another service, or another port of it, and said so.
	ReasonNotAdmitted Reason = "NOT_ADMITTED"
	// ReasonExpired: the certificate that the peer proved itself with, when it opened the tunnel, has ended since.
	ReasonExpired Reason = "CERT_EXPIRED"
	// ReasonOwnPort: the connection would lead back into the proxy's own listeners.
	ReasonOwnPort Reason = "PROXY_PORT"
	// ReasonCrowded: too many connections to tunnel ports are open whose other end has proved nothing, and this one was silent for longest, or one too many of its address; or the
	// peer has as many tunnels to the pod as it may.
	ReasonCrowded Reason = "CROWDED"
	// ReasonRevoked: the connection was open, and policy turned against it.
	ReasonRevoked Reason = "POLICY_CHANGED"
	// ReasonDrain: the proxy's drain time ended, or the pod went away.
	ReasonDrain Reason = "DRAINED"
	// ReasonBroken: the connection failed after it was established.
	ReasonBroken Reason = "BROKEN"
)

func refuse(status int, reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Reason: reason, Err: fmt.Errorf(format, args...)}
}

func unavailable(reason Reason, format string, args ...any) *Refusal {
	return refuse(http.StatusServiceUnavailable, reason, format, args...)
}
