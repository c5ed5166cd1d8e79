// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Endpoint is where a request goes.
type Endpoint struct {
	Workload *mesh.Workload
	// Addr is not valid if it is in another network.
	Addr netip.AddrPort
	// Service and Port are what it was picked for.
	Service *mesh.Service
	Port    uint16
	// HTTP2 says that it speaks HTTP/2 without TLS, and is not to be asked in HTTP/1.1.
	HTTP2 bool
	// TLS says how TLS is spoken to it; nil: it is not.
	TLS *backendtls.Settings
	// Others says that there is another one, which could be tried instead.
	Others bool
}

// tunnelled says whether only a tunnel leads to the endpoint, or the safer way.
func (e *Endpoint) tunnelled() bool {
	return !e.Addr.IsValid() || e.Workload.Tunnel == mesh.TunnelHBONE
}

// Carrier carries requests to endpoints. It is the seam at which another way to keep connections fits in.
type Carrier interface {
	// Carry sends a request, whose URL names the endpoint. An error that wraps ErrNotSent promises that no byte of it was.
	Carry(to Endpoint, r *http.Request) (*http.Response, error)
	// Retire closes those of them that were made with TLS settings, which are in force no more.
	Retire(s *backendtls.Settings)
	// Forget closes connections that nobody uses.
	Forget()
}

// ErrNotSent means that a request may be tried elsewhere, whatever it is.
var ErrNotSent = errors.New("no byte of the request was sent")

// maxAttempts bounds how many endpoints are tried for one request.
const maxAttempts = 8

// carry finds an endpoint of a backend and sends the request there. A connection that cannot be made is tried at other endpoints, each of which is one of the tries.
func (s *Server) carry(r *http.Request, b *mesh.HTTPBackend, left *tries) (*http.Response, error) {
	secure := s.backends.Load().For(b.Service, b.Port)
	if secure != nil && secure.Problem() != nil {
		return nil, &Refusal{http.StatusInternalServerError, ReasonBackendTLS, secure.Problem()}
	}
	failed := func(err error) *Refusal { return &Refusal{http.StatusServiceUnavailable, ReasonConnect, err} }
	var failures error
	var avoid directory.Out
	t := tripOf(r.Context()) // nil: of a copy
	var body *kept
	if r.Body != nil && r.Body != http.NoBody {
		body = &kept{ReadCloser: r.Body}
		r.Body = body
		defer body.release()
	}
	visit := visitOf(r.Context())
	for range maxAttempts {
		if failures != nil && left.left <= 0 {
			break
		}
		out := both(secure.Out(s.outliers.now()), left.failed)
		if t != nil {
			out = both(s.outliers.out(portOf{b.Service, b.Port, t.target.Route.Key()}), out)
		}
		to, refusal := s.endpoint(visit, b, avoid, out)
		switch {
		case failures == nil && refusal != nil:
			return nil, refusal
		case refusal != nil:
			return nil, failed(failures)
		case failures != nil:
			left.take()
		}
		if t != nil {
			t.endpoint.Store(&to)
		}
		to.TLS = secure
		r.URL.Scheme, r.URL.Host = "http", to.Addr.String()
		if secure != nil {
			r.URL.Scheme = "https"
		}
		carrier := s.o.Carrier
		if s.o.Tunnels != nil && to.tunnelled() {
			carrier = s.o.Tunnels
		}
		anew := body != nil && t != nil && to.HTTP2 && len(r.Trailer) == 0 // trailers are of the turn that they were sent with
		if anew && left.body == nil {
			left.body = s.replayOf(t, r, s.unprocessed)
			left.body.alone = true
			defer left.body.settle()
			r.Body = turned{left.body.turn(), body}
		}
		var response *http.Response
		var err error
		if anew {
			response, err = left.body.carry(carrier, to, r, body)
		} else {
			if r.GetBody = nil; body != nil && t != nil && left.body != nil && left.left <= 0 {
				left.body.settle()
			}
			response, err = carrier.Carry(to, r)
		}
		if err == nil {
			if response.StatusCode < http.StatusInternalServerError { // what others say nothing for it, and only rules that retry say whether it is against it
				s.outliers.succeeded(keyOf(to))
				if t != nil {
					s.outliers.succeeded(keyOf(to).by(t.target.Route))
				}
			}
			secure.Agreed(to.Workload.UID)
			if status := response.StatusCode; status < 100 || status > 999 { // nobody could be answered with it
				response.Body.Close()
				return nil, fmt.Errorf("the status of the answer is %d, which is none", status)
			}
			return response, nil
		}
		if isOver(r.Context()) || !errors.Is(err, ErrNotSent) {
			if errors.Is(err, syscall.ETIMEDOUT) { // its machine is gone: see Limits.AckTime
				s.outliers.failed(keyOf(to))
				s.metrics.connectFailures.Inc()
			}
			return nil, err
		}
		if anew && !left.body.anew(r, body) { // another endpoint may have been sent it before, and not have processed it
			return nil, err
		}
		if anew && t.turn != nil { // the one before is over
			t.turn = left.body.turn()
		}
		if errors.Is(err, backendtls.ErrHandshake) {
			secure.Failed(to.Workload.UID, s.outliers.now())
			s.metrics.tlsFailures.Inc()
			failed = func(err error) *Refusal { return &Refusal{http.StatusBadGateway, ReasonBackendTLS, err} }
		} else {
			s.outliers.failed(keyOf(to))
			s.metrics.connectFailures.Inc()
		}
		failures = errors.Join(failures, fmt.Errorf("endpoint %s of %s: %w", to.Addr, to.Workload.Name, err))
		if avoid.Endpoints == nil {
			avoid.Endpoints = map[string]struct{}{}
		}
		avoid.Endpoints[to.Workload.UID] = struct{}{}
	}
	return nil, failed(failures)
}

// isOver says whether a context has ended. Dialers look at the clock themselves, and may find its time up a moment before it does, which is no fault of who was dialed.
func isOver(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// endpoint picks one of a backend's endpoints, in our own network or, if there are tunnels, in any, if it can one that has not failed.
func (s *Server) endpoint(v *Visit, b *mesh.HTTPBackend, avoid directory.Out, failed map[string]struct{}) (Endpoint, *Refusal) {
	view := s.o.Directory.Load()
	service := view.Service(b.Service)
	none := func(err error) (Endpoint, *Refusal) {
		return Endpoint{}, &Refusal{http.StatusServiceUnavailable, ReasonNoEndpoint, err}
	}
	if service == nil {
		return none(fmt.Errorf("service %s is not known", b.Service))
	}
	port, ok := service.Port(b.Port)
	if !ok {
		return none(fmt.Errorf("service %s has no port %d", b.Service, b.Port))
	}
	want := directory.Want{
		Network: s.network(), Service: service, Port: b.Port, Avoid: avoid, Ejected: directory.Out{Endpoints: both(s.outliers.out(portOf{service: b.Service, port: b.Port}), failed)},
		LocalOnly: s.o.Tunnels == nil || v != nil && v.LocalOnly, Random: rand.Uint64N,
	}
	if s.o.Self != nil {
		want.Client = s.o.Self()
	}
	e, ok := directory.Pick(view, want)
	if !ok || !e.Remote(want.Network) && (!e.Addr.IsValid() || e.Port.Target == 0) {
		return none(fmt.Errorf("service %s, port %d: no endpoint is ready", b.Service, b.Port))
	}
	app := e.Port.App
	if app == mesh.AppUnknown {
		app = port.App
	}
	to := Endpoint{
		Workload: e.Workload, Service: service, Port: b.Port, Others: e.Others,
		HTTP2: b.HTTP2 || app == mesh.AppHTTP2 || app == mesh.AppGRPC,
	}
	if e.Addr.IsValid() {
		to.Addr = netip.AddrPortFrom(e.Addr, e.Port.Target)
	}
	return to, nil
}

// both are the members of two sets, of which the first is ours to change.
func both(a, b map[string]struct{}) map[string]struct{} {
	if a == nil {
		return b
	}
	maps.Copy(a, b)
	return a
}

// kept is a request's body that outlives an attempt that failed before it was read: a transport closes what it is given.
type kept struct {
	io.ReadCloser
	released atomic.Bool
}

// Close does nothing before release.
func (k *kept) Close() error {
	if !k.released.Load() {
		return nil
	}
	return k.ReadCloser.Close()
}

// release lets a later Close through. The server closes what nobody did.
func (k *kept) release() { k.released.Store(true) }
