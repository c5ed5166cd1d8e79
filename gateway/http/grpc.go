// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Codes of gRPC, as in its grpc-status.
const (
	grpcCancelled         = 1
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
)

// isGRPC says whether a client speaks gRPC: its media type, with or without a name of the encoding, in HTTP/2. Not grpc-web, which is plain HTTP.
func isGRPC(r *http.Request) bool {
	if r.ProtoMajor != 2 || r.Method != http.MethodPost {
		return false
	}
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// converses says whether the client of a request may be silent for any time: that it is there is for pings to tell. That it speaks gRPC is only its own word for it, so the route of a stranger has to be
// a GRPCRoute, or the backend's port for gRPC. In the mesh who is silent has proved who it is.
func (s *Server) converses(t *trip) bool {
	switch {
	case !t.grpc:
		return false
	case t.target.Route.GRPC, t.visit != nil:
		return true
	}
	service := s.o.Directory.Load().Service(t.backend.Service)
	if service == nil {
		return false
	}
	port, _ := service.Port(t.backend.Port)
	return port.App == mesh.AppGRPC
}

// calls says whether a path is "/service/method" with a method.
func calls(path, method string) bool {
	i := strings.LastIndexByte(path, '/')
	return i > 1 && path[i+1:] == method && strings.IndexByte(path[1:i], '/') < 0
}

// grpcCode is what a client of gRPC is told of a refusal. The Gateway API wants UNAVAILABLE for what has no backend; of a path that no rule fits,
// a server of its own would say UNIMPLEMENTED.
func grpcCode(r *Refusal) int {
	switch r.Reason {
	case ReasonNoListener, ReasonNoRoute, ReasonMethod:
		return grpcUnimplemented
	case ReasonInvalidRule, ReasonInvalidBackend, ReasonNoEndpoint, ReasonConnect, ReasonBackendTLS, ReasonUpstream, ReasonDrained:
		return grpcUnavailable
	case ReasonTimeout:
		return grpcDeadlineExceeded
	case ReasonDenied:
		return grpcPermissionDenied
	case ReasonTooLarge, ReasonHeaderMemory:
		return grpcResourceExhausted
	case ReasonStalled, ReasonClientGone:
		return grpcCancelled
	case ReasonBadPath, ReasonBadHost, ReasonBadBody:
		return grpcInternal
	}
	return grpcUnknown
}

// refuseRPC answers a call instead of a backend: an answer that is nothing but trailers.
func refuseRPC(w http.ResponseWriter, refusal *Refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(grpcCode(refusal)))
	h.Set("Grpc-Message", fmt.Sprintf("%d %s", refusal.Status, refusal.Reason)) // nothing in it needs an escape
	w.WriteHeader(http.StatusOK)
}

// abortRPC ends an answer that has begun and cannot go on: with trailers that say so, as half an answer of gRPC without them would be.
func abortRPC(w http.ResponseWriter, t *trip) {
	refusal := &Refusal{http.StatusBadGateway, ReasonUpstream, t.err}
	switch {
	case t.stalled.Load():
		refusal = &Refusal{http.StatusRequestTimeout, ReasonStalled, t.err}
	case t.timeUp():
		refusal = &Refusal{http.StatusGatewayTimeout, ReasonTimeout, errTimeUp}
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(grpcCode(refusal)))
	w.Header().Set(http.TrailerPrefix+"Grpc-Message", fmt.Sprintf("%d %s", refusal.Status, t.reason))
}

// grpcTimeout reads the time that a client gives a call: up to eight digits and a unit. What cannot be read is no limit; the backend judges it.
func grpcTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	unit, ok := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}[s[len(s)-1]]
	if !ok {
		return 0, false
	}
	if n > uint64(math.MaxInt64/unit) {
		return math.MaxInt64, true
	}
	return time.Duration(n) * unit, true
}
