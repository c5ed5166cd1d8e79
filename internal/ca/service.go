// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/authpb"
)

const (
	// impersonationKey is the metadata field in which a shared proxy names the identity it asks for.
	impersonationKey = "ImpersonatedIdentity"
	// maxUnderWay bounds the requests under way; each may cost the API server a token review. More wait for their turn
	// as long as their callers do.
	maxUnderWay = 64
	// answerTimeout bounds one request.
	answerTimeout = 10 * time.Second
)

// ServiceOptions configure a Service. Signer and Authorize are required.
type ServiceOptions struct {
	Log logr.Logger
	// Signer gives the present signer, never nil. It is called for each request.
	Signer func() *Signer
	// Authorize says for which identity the caller gets a certificate. requested is what the caller asked for, or the
	// zero Identity if it asked for its own. It reads the caller's credentials from the context of the call
	// (xds.Credentials does). An error refuses: a gRPC status goes out as it is, an error of time as "try again", and
	// any other as Unauthenticated, with its text.
	Authorize func(ctx context.Context, requested mesh.Identity) (mesh.Identity, error)
	// Registerer takes the service's metrics, or nil.
	Registerer prometheus.Registerer
}

// Service answers requests for certificates.
type Service struct {
	authpb.UnimplementedIstioCertificateServiceServer

	options  ServiceOptions
	underWay chan struct{}
	answers  *prometheus.CounterVec
}

// NewService makes a service.
func NewService(o ServiceOptions) *Service {
	s := &Service{
		options:  o,
		underWay: make(chan struct{}, maxUnderWay),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_ca_answers_total", Help: "Requests for certificates, by the gRPC code of the answer."}, []string{"code"}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.answers)
	}
	return s
}

// Register offers the service on a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	authpb.RegisterIstioCertificateServiceServer(r, s)
}

// CreateCertificate implements the gRPC service.
func (s *Service) CreateCertificate(ctx context.Context, r *authpb.IstioCertificateRequest) (*authpb.IstioCertificateResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	requested, id, chain, err := s.answer(ctx, r)
	s.answers.WithLabelValues(status.Code(err).String()).Inc()
	if err != nil {
		s.options.Log.Info("certificate refused", "requested", requested.String(), "identity", id.String(), "reason", err.Error())
		return nil, err
	}
	s.options.Log.V(1).Info("certificate issued", "identity", id.String())
	return &authpb.IstioCertificateResponse{CertChain: chain}, nil
}

// answer gives the chain, and for the log whom it is about. Its errors are gRPC statuses.
func (s *Service) answer(ctx context.Context, r *authpb.IstioCertificateRequest) (requested, id mesh.Identity, chain []string, err error) {
	if v := r.GetMetadata().GetFields()[impersonationKey]; v != nil {
		if requested, err = mesh.ParseIdentity(v.GetStringValue()); err != nil {
			return requested, id, nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	select {
	case s.underWay <- struct{}{}:
		defer func() { <-s.underWay }()
	case <-ctx.Done():
		return requested, id, nil, status.Error(codes.Unavailable, "too many requests for certificates are under way")
	}
	if id, err = s.options.Authorize(ctx, requested); err != nil {
		return requested, id, nil, refusal(err)
	}
	if !requested.IsZero() && id != requested {
		return requested, id, nil, status.Errorf(codes.Unauthenticated, "caller is entitled to %s only", id)
	}
	chain, err = s.options.Signer().Sign(id, []byte(r.GetCsr()), lifetime(r.GetValidityDuration()))
	if bad := (*RequestError)(nil); errors.As(err, &bad) {
		return requested, id, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err != nil {
		return requested, id, nil, status.Error(codes.Internal, err.Error())
	}
	return requested, id, chain, nil
}

// lifetime reads seconds from a peer, which may be any number. One that asks for none gets 0, the default.
func lifetime(seconds int64) time.Duration {
	if seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, math.MaxInt64/int64(time.Second))) * time.Second
}

// refusal keeps an error that is a gRPC status; an error of time says try again; any other one is the caller's fault.
func refusal(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(codes.Unauthenticated, err.Error())
}
