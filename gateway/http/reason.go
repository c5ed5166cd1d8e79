// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// Reason says why a request was answered by the gateway itself, or not to its end. It is a label of counters.
type Reason string

const (
	// ReasonNone: a backend answered.
	ReasonNone Reason = "-"
	// ReasonRedirect: a rule redirects.
	ReasonRedirect Reason = "redirect"
	// ReasonPreflight: a browser asked whether a script of another origin may send a request.
	ReasonPreflight Reason = "preflight"
	// ReasonOrigin: a browser asked that, and it may not.
	ReasonOrigin Reason = "origin_not_allowed"
	// ReasonNoListener: no listener of the port is for the host.
	ReasonNoListener Reason = "no_listener"
	// ReasonNoRoute: no rule fits.
	ReasonNoRoute Reason = "no_route"
	// ReasonMisdirected: the host belongs to another listener than the one that TLS was made for.
	ReasonMisdirected Reason = "misdirected"
	// ReasonClientCertificate: the client of the connection has not proved what the listener wants of its clients.
	ReasonClientCertificate Reason = "client_certificate"
	// ReasonDenied: a policy does not let the client in.
	ReasonDenied Reason = "denied"
	// ReasonRevoked: a policy that came later does not let the client in.
	ReasonRevoked Reason = "revoked"
	// ReasonHeaderMemory: the requests of the client that run hold as much in their headers as they may together.
	ReasonHeaderMemory Reason = "header_memory"
	// ReasonBadPath: the request's target is no path.
	ReasonBadPath Reason = "bad_path"
	// ReasonBadHost: the request names two hosts, or one that is none.
	ReasonBadHost Reason = "bad_host"
	// ReasonBadBody: the request's body is not what its headers say, as chunks are not chunks.
	ReasonBadBody Reason = "bad_body"
	// ReasonLoop: the request has come through this gateway too often: a route, or an address of a service, leads back to it.
	ReasonLoop Reason = "loop"
	// ReasonMethod: CONNECT, which is not served, or what is no method.
	ReasonMethod Reason = "method"
	// ReasonInvalidRule: the rule holds something that is not served.
	ReasonInvalidRule Reason = "invalid_rule"
	// ReasonInvalidBackend: the rule has no backend, or the one whose turn it is does not exist.
	ReasonInvalidBackend Reason = "invalid_backend"
	// ReasonNoEndpoint: the backend has no endpoint that is ready.
	ReasonNoEndpoint Reason = "no_endpoint"
	// ReasonConnect: no endpoint could be connected to.
	ReasonConnect Reason = "connect_failed"
	// ReasonBackendTLS: an endpoint was not taken for what a BackendTLSPolicy wants it to be, or nothing is by the policy.
	ReasonBackendTLS Reason = "backend_tls_failed"
	// ReasonUpstream: the endpoint ended before it had answered.
	ReasonUpstream Reason = "upstream_failed"
	// ReasonTimeout: the rule's time was over.
	ReasonTimeout Reason = "timeout"
	// ReasonTooLarge: the request's body is beyond the limit.
	ReasonTooLarge Reason = "body_too_large"
	// ReasonStalled: the client sent the next piece of its request too late.
	ReasonStalled Reason = "client_stalled"
	// ReasonClientGone: the client left before it was answered.
	ReasonClientGone Reason = "client_gone"
	// ReasonAborted: the answer had begun and was not carried to its end.
	ReasonAborted Reason = "aborted"
	// ReasonDrained: the request was cut because the time for draining was over.
	ReasonDrained Reason = "drained"
)

// headerReason, in an answer of the gateway's own, says why.
const headerReason = "X-Isthmus-Reason"

// Refusal is a request that no backend answers: what the client is told, what the operator is told, and what is counted.
type Refusal struct {
	Status int
	Reason Reason
	Err    error // the detail, for the log only; may be nil
}

// Error gives status, reason and detail.
func (r *Refusal) Error() string { return fmt.Sprintf("%d %s: %v", r.Status, r.Reason, r.Err) }

// Unwrap gives the detail.
func (r *Refusal) Unwrap() error { return r.Err }

// statusClientGone is what the log says when nobody is there to be answered.
const statusClientGone = 499

// refusalOf understands why a request could not be carried to a backend.
func refusalOf(ctx context.Context, err error) *Refusal {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal
	}
	var tooLarge *http.MaxBytesError
	var late net.Error
	switch cause := context.Cause(ctx); {
	case errors.As(err, &tooLarge):
		return &Refusal{http.StatusRequestEntityTooLarge, ReasonTooLarge, err}
	case errors.Is(cause, errTimeUp):
		return &Refusal{http.StatusGatewayTimeout, ReasonTimeout, errTimeUp}
	case errors.Is(cause, errRevoked):
		return &Refusal{http.StatusForbidden, ReasonRevoked, errRevoked}
	case errors.Is(cause, errCut):
		return &Refusal{http.StatusServiceUnavailable, ReasonDrained, errCut}
	case errors.Is(err, errAttemptTimeUp): // what reads the client's body is ended then, which looks as if the client had left
		return &Refusal{http.StatusGatewayTimeout, ReasonTimeout, err}
	case cause != nil:
		return &Refusal{statusClientGone, ReasonClientGone, err}
	case errors.As(err, &late) && late.Timeout():
		return &Refusal{http.StatusGatewayTimeout, ReasonTimeout, err}
	default:
		return &Refusal{http.StatusBadGateway, ReasonUpstream, err}
	}
}

var (
	errTimeUp        = errors.New("the time for the request is over")
	errAttemptTimeUp = errors.New("the time for the backend is over")
	errCut           = errors.New("the time for draining is over")
)
