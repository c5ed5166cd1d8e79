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
	// maxUnderWay bounds the calls of Authorize under way, each of which may cost the API server a token review. More
	// wait for their turn.
	maxUnderWay = 64
	// answerTimeout bounds one request, from its headers to its answer.
	answerTimeout = 10 * time.Second
)

// ServiceOptions configure a Service. Signer and Authorize are required.
type ServiceOptions struct {
	Log logr.Logger
	// Signer gives the present signer, never nil. It is called for each request.
	Signer func() *Signer
	// Authorize says for which identity the caller gets a certificate. requested is what the caller asked for, or the
	// zero Identity if it asked for its own. It reads the caller's credentials from the context of the call
	// (xds.Credentials does). It is first called with the zero Identity, before a byte of the request was read, and then
	// once more if the caller asked for another identity than it got. An error refuses: a gRPC status goes out as it is, an error of time as "try again", and
	// any other as Unauthenticated, with its text.
	Authorize func(ctx context.Context, requested mesh.Identity) (mesh.Identity, error)
	// MaxLifetime bounds the lifetime that a caller may ask for, so that a certificate which somebody took does not outlive the reason why it was given by much. A
	// certificate is then shorter than was asked for, which its holder can read in it; to refuse it would leave a proxy of another setting without any. 0 means DefaultLifetime.
	MaxLifetime time.Duration
	// Registerer takes the service's metrics, or nil.
	Registerer prometheus.Registerer
}

// Service answers requests for certificates.
type Service struct {
	options  ServiceOptions
	underWay chan struct{}
	answers  *prometheus.CounterVec
	signed   *signed
}

// NewService makes a service.
func NewService(o ServiceOptions) *Service {
	if o.MaxLifetime == 0 {
		o.MaxLifetime = DefaultLifetime
	}
	s := &Service{
		options:  o,
		underWay: make(chan struct{}, maxUnderWay),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_ca_answers_total", Help: "Requests for certificates, by the gRPC code of the answer."}, []string{"code"}),
		signed: newSigned(time.Now),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.answers, s.signed)
	}
	return s
}

// Register offers the service on a gRPC server.
//
// The method is registered as a stream of one request and one answer, which is the same on the wire: a unary method
// would be called only when its request, of any size that the server accepts, is in memory, whoever sent it.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	served := authpb.IstioCertificateService_ServiceDesc
	desc := grpc.ServiceDesc{ServiceName: served.ServiceName, HandlerType: (*any)(nil), Metadata: served.Metadata}
	desc.Streams = []grpc.StreamDesc{{
		StreamName: served.Methods[0].MethodName,
		Handler:    func(_ any, stream grpc.ServerStream) error { return s.serve(stream) },
	}}
	r.RegisterService(&desc, s)
}

// serve answers one call.
func (s *Service) serve(stream grpc.ServerStream) error {
	ctx, cancel := context.WithTimeout(stream.Context(), answerTimeout)
	defer cancel()
	c := call{service: s}
	err := c.answer(ctx, stream)
	s.answers.WithLabelValues(status.Code(err).String()).Inc()
	if err != nil {
		s.options.Log.Info("certificate refused", "requested", c.requested.String(), "identity", c.id.String(), "reason", err.Error())
		return err
	}
	s.options.Log.V(1).Info("certificate issued", "identity", c.id.String())
	return nil
}

// call is one request on its way. Errors of its methods are gRPC statuses.
type call struct {
	service   *Service
	requested mesh.Identity // zero: the caller's own
	id        mesh.Identity // what the caller is entitled to
}

func (c *call) answer(ctx context.Context, stream grpc.ServerStream) error {
	if err := c.authorize(ctx); err != nil {
		return err
	}
	request, err := receive(ctx, stream)
	if err != nil {
		return err
	}
	if v := request.GetMetadata().GetFields()[impersonationKey]; v != nil {
		if c.requested, err = mesh.ParseIdentity(v.GetStringValue()); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if c.requested != c.id {
			if err := c.authorize(ctx); err != nil {
				return err
			}
		}
	}
	signer, lifetime := c.service.options.Signer(), c.service.lifetime(request.GetValidityDuration())
	chain, err := signer.Sign(c.id, []byte(request.GetCsr()), lifetime)
	if bad := (*RequestError)(nil); errors.As(err, &bad) {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	c.service.signed.add(signer.Top(), signer.end(lifetime))
	return stream.SendMsg(&authpb.IstioCertificateResponse{CertChain: chain})
}

// authorize asks what the caller is entitled to, and waits for its turn to do so.
func (c *call) authorize(ctx context.Context) error {
	select {
	case c.service.underWay <- struct{}{}:
		defer func() { <-c.service.underWay }()
	case <-ctx.Done():
		return status.Error(codes.Unavailable, "too many requests for certificates are under way")
	}
	id, err := c.service.options.Authorize(ctx, c.requested)
	if err != nil {
		return refusal(err)
	}
	if !c.requested.IsZero() && id != c.requested {
		return status.Errorf(codes.Unauthenticated, "caller is entitled to %s only", id)
	}
	c.id = id
	return nil
}

// receive reads the request, for as long as ctx lasts. If that ends first, the reader ends when the call does, which is
// when the caller of receive returns its error.
func receive(ctx context.Context, stream grpc.ServerStream) (*authpb.IstioCertificateRequest, error) {
	request := new(authpb.IstioCertificateRequest)
	received := make(chan error, 1)
	go func() { received <- stream.RecvMsg(request) }()
	select {
	case err := <-received:
		return request, err
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// lifetime reads seconds from a peer, which may be any number. One that asks for none gets the default.
func (s *Service) lifetime(seconds int64) time.Duration {
	asked := DefaultLifetime
	if seconds > 0 {
		asked = time.Duration(min(seconds, math.MaxInt64/int64(time.Second))) * time.Second
	}
	return min(asked, s.options.MaxLifetime)
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
