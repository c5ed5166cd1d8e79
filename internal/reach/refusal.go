// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// Reason is why a connection was refused: the word in the access log and in the metrics' response_flags. Those that ztunnel has too
// are spelled as there.
type Reason string

// Reasons why an endpoint was not reached.
const (
	// ReasonDenied: a policy says no.
	ReasonDenied Reason = "DENY"
	// ReasonConnect: the next hop could not be connected.
	ReasonConnect Reason = "CONNECT"
	// ReasonNetworkPolicy: nobody answers at the tunnel port of an endpoint here, not even with a refusal. It may be gone, or a NetworkPolicy lets its own ports through and not that one.
	ReasonNetworkPolicy Reason = "NETWORK_POLICY"
	// ReasonTLS: the next hop, or the peer, did not prove what it had to.
	ReasonTLS Reason = "TLS_FAILURE"
	// ReasonCertRevoked: the next hop's certificate, or the peer's, was revoked, before or while the connection was open.
	ReasonCertRevoked Reason = "CERT_REVOKED"
	// ReasonTunnel: HTTP/2 failed, or the far end of the tunnel said no.
	ReasonTunnel Reason = "H2_HANDSHAKE_FAILURE"
	// ReasonIdentity: there is no certificate for the local workload.
	ReasonIdentity Reason = "IDENTITY_ERROR"
	// ReasonNoEndpoint: the service is known, but has no usable endpoint left to try.
	ReasonNoEndpoint Reason = "NO_HEALTHY_UPSTREAM"
	// ReasonNoPort: the service, or each of its endpoints, does not have the port that was dialled.
	ReasonNoPort Reason = "NO_SUCH_PORT"
	// ReasonWrongFamily: no endpoint has an address of a family that the service allows.
	ReasonWrongFamily Reason = "WRONG_IP_FAMILY"
	// ReasonTooFar: the service insists on near endpoints, and has none.
	ReasonTooFar Reason = "NO_NEAR_ENDPOINT"
	// ReasonNoGateway: the endpoint is in another network whose gateway is not known.
	ReasonNoGateway Reason = "NO_GATEWAY"
	// ReasonBadTarget: the authority cannot be read, or names an address that is not this pod's.
	ReasonBadTarget Reason = "BAD_TARGET"
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

func unavailable(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Reason: reason, Err: fmt.Errorf(format, args...)}
}

// HopError says at which step towards the next hop a connection failed.
type HopError struct {
	Reason Reason
	Err    error
}

func (e *HopError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *HopError) Unwrap() error { return e.Err }

// TLSError gives a handshake's failure its reason.
func TLSError(err error) error {
	if _, ok := errors.AsType[*mtls.IssueError](err); ok {
		return &HopError{Reason: ReasonIdentity, Err: err}
	}
	return &HopError{Reason: Distrust(err), Err: fmt.Errorf("TLS handshake: %w", err)}
}

// Distrust is the reason for which a peer was not believed.
func Distrust(err error) Reason {
	if refused, ok := errors.AsType[*mtls.VerifyError](err); ok && refused.Reason == mtls.ReasonRevoked {
		return ReasonCertRevoked
	}
	return ReasonTLS
}

const (
	// headerReason, on an answer that is no 200, says in a word why a gateway refuses (docs/hbone.md §13.5). It is for the log.
	headerReason = "x-isthmus-reason"
	// maxReason bounds that word, in bytes. The longest of ours has 28.
	maxReason = 64
)

// gatewayReason reads x-isthmus-reason. What is no word is none.
func gatewayReason(value string) string {
	if len(value) > maxReason || strings.ContainsFunc(value, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		return ""
	}
	return value
}

// RefusalOf finds the reason in what went wrong with a tunnel.
func RefusalOf(err error) *Refusal {
	if refused, ok := errors.AsType[*hbone.RefusedError](err); ok {
		reason := ReasonConnect
		switch refused.Status {
		case http.StatusUnauthorized, http.StatusForbidden: // ztunnels and ours, and Envoys
			reason = ReasonDenied
		case http.StatusBadRequest:
			reason = ReasonBadTarget
		}
		if why := gatewayReason(refused.Header.Get(headerReason)); why != "" {
			err = fmt.Errorf("%w (%s)", err, why)
		}
		return &Refusal{Status: refused.Status, Reason: reason, Err: err}
	}
	reason := ReasonTunnel
	if hop, ok := errors.AsType[*HopError](err); ok {
		reason = hop.Reason
	} else if _, ok := alertOf(err); ok { // a server judges its client when the handshake is over for the client (RFC 8446 §4.4.2.4)
		reason = ReasonTLS
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) { // nobody said anything
		reason = ReasonConnect
	}
	return &Refusal{Status: http.StatusServiceUnavailable, Reason: reason, Err: err}
}
