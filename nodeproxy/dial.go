// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// tunnelKey names the connections that may be shared: one per source identity, next hop identities and address. The pool is the pod's
// own, because the far end shows the tunnel's address to its application.
type tunnelKey struct {
	source mesh.Identity
	next   string // SPIFFE ids joined by spaces, in order
	dial   netip.AddrPort
	// via is the gateway that is dialled, or the zero value: what becomes of the connection says how the gateway does.
	via ejected
}

// dialled is an established upstream connection.
type dialled struct {
	relay.Conn
	// peer is what the last hop proved; zero for plain TCP.
	peer mesh.Identity
	// answer are the headers of the last hop's 200.
	answer hbone.Header
	// finish says goodbye; the relay is over.
	finish func()
}

// headers are what a CONNECT carries about its origin.
type headers struct {
	source *mesh.Workload
	client netip.AddrPort
	host   string // of the service that was meant
	trace  string
}

func (h headers) list() hbone.Header {
	return hbone.Header{
		{Name: headerBaggage, Value: BaggageOf(h.source).String()},
		{Name: headerForwarded, Value: Forwarded{For: h.client, Host: h.host}.String()},
		{Name: headerTrace, Value: h.trace},
	}
}

// connectUpstream decides and dials, and decides again when an endpoint fails before any byte was sent to it. It gives the plan that
// was used, or the one that failed last.
func (p *pod) connectUpstream(ctx context.Context, conn *Connection, dst netip.AddrPort) (Plan, *dialled, *Refusal) {
	self := conn.self
	source, trace := Source{Network: p.proxy.networkOf(self), Workload: self}, traceparent(conn.span.Traceparent())
	a := attempts{
		health: p.proxy.health, random: rand.Uint64N,
		decide: func(c Choice) (Plan, *Refusal) { return Decide(p.proxy.o.View.Load(), source, dst, c) },
		dial: func(ctx context.Context, plan Plan) (*dialled, *failure) {
			h := headers{source: self, client: conn.Source, trace: trace}
			if plan.Service != nil {
				h.host = plan.Service.Hostname
			}
			return p.dialPlan(ctx, self.Identity(), plan, h)
		},
		gatewayDown: func(plan Plan) { p.watchGateway(self.Identity(), plan) },
		failed: func(plan Plan, refusal *Refusal) {
			p.proxy.metrics.attemptsFailed.WithLabelValues(string(refusal.Reason), plan.Via.String()).Inc()
			p.proxy.o.Log.V(1).Info("attempt to connect failed", "workload", p.String(), "service", dst.String(), "tunnel", plan.Via.String(),
				"endpoint", plan.Picked, "destination", plan.Dial.String(), "reason", string(refusal.Reason), "cause", refusal.Err.Error())
		},
	}
	return a.connect(ctx, dst)
}

func (p *pod) dialPlan(ctx context.Context, source mesh.Identity, plan Plan, h headers) (*dialled, *failure) {
	if plan.Host != "" {
		p.proxy.metrics.namesResolved.Inc()
		var err error
		if plan, err = resolved(ctx, net.DefaultResolver, plan); err != nil {
			return nil, &failure{Refusal: refusalOf(err), gateway: plan.Via == DoubleHBONE}
		}
	}
	switch plan.Via {
	case HBONE:
		stream, answer, refusal := p.openTunnel(ctx, source, plan, h.list())
		if refusal != nil {
			return nil, &failure{Refusal: refusal}
		}
		return &dialled{Conn: stream, peer: provedBy(stream.Conn()), answer: answer, finish: func() {}}, nil
	case DoubleHBONE:
		return p.dialDouble(ctx, source, plan, h.list(), p.proxy.networkOf(h.source))
	default:
		nc, err := p.dialTCP(ctx, plan.Dial)
		if err != nil {
			return nil, &failure{Refusal: refusalOf(err)}
		}
		return &dialled{Conn: nc, finish: func() {}}, nil
	}
}

// openTunnel opens a stream in a shared tunnel to the next hop.
func (p *pod) openTunnel(ctx context.Context, source mesh.Identity, plan Plan, h hbone.Header) (*hbone.Stream, hbone.Header, *Refusal) {
	key := tunnelKey{source: source, next: joined(plan.Next), dial: plan.Dial, via: gatewayOf(plan)}
	stream, answer, err := p.tunnels.Open(ctx, key, plan.Target, h)
	if err != nil {
		return nil, nil, refusalOf(fmt.Errorf("tunnel to %v for %s: %w", plan.Dial, plan.Target, err))
	}
	return stream, answer, nil
}

// dialTunnel makes a tunnel for the pool.
func (p *pod) dialTunnel(ctx context.Context, key tunnelKey) (*hbone.Conn, error) {
	nc, err := p.dialTCP(ctx, key.dial)
	if err != nil {
		return nil, err
	}
	p.proxy.metrics.handshakes.WithLabelValues("outer").Inc()
	secured := tls.Client(hbone.NewTransport(nc), p.proxy.o.Certificates.Client(key.source, parse(strings.Fields(key.next))))
	if err := secured.HandshakeContext(ctx); err != nil {
		shut(nc)
		return nil, tlsError(err)
	}
	conn, err := hbone.NewClient(secured, p.gatewaySettings(key.via))
	if err != nil {
		secured.Close()
		return nil, &hopError{reason: ReasonTunnel, err: err}
	}
	p.proxy.o.Certificates.Guard(conn)
	return conn, nil
}

// dialTCP connects from inside the pod's namespace.
func (p *pod) dialTCP(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	nc, _, err := p.proxy.sockets.dial(ctx, p.namespace, to, netip.Addr{})
	if err != nil {
		return nil, &hopError{reason: ReasonConnect, err: err}
	}
	return nc, nil
}

// hopError says at which step towards the next hop a connection failed.
type hopError struct {
	reason Reason
	err    error
}

func (e *hopError) Error() string { return e.err.Error() }
func (e *hopError) Unwrap() error { return e.err }

func tlsError(err error) error {
	if _, ok := errors.AsType[*mtls.IssueError](err); ok {
		return &hopError{reason: ReasonIdentity, err: err}
	}
	return &hopError{reason: distrust(err), err: fmt.Errorf("TLS handshake: %w", err)}
}

// distrust is the reason for which a peer was not believed.
func distrust(err error) Reason {
	if refused, ok := errors.AsType[*mtls.VerifyError](err); ok && refused.Reason == mtls.ReasonRevoked {
		return ReasonCertRevoked
	}
	return ReasonTLS
}

// refusalOf finds the reason in what went wrong with a tunnel.
func refusalOf(err error) *Refusal {
	if refused, ok := errors.AsType[*hbone.RefusedError](err); ok {
		reason := ReasonConnect
		switch refused.Status {
		case http.StatusUnauthorized:
			reason = ReasonDenied
		case http.StatusBadRequest:
			reason = ReasonBadTarget
		}
		return &Refusal{Status: refused.Status, Reason: reason, Err: err}
	}
	reason := ReasonTunnel
	if hop, ok := errors.AsType[*hopError](err); ok {
		reason = hop.reason
	}
	return &Refusal{Status: http.StatusServiceUnavailable, Reason: reason, Err: err}
}

// provedBy is what the other end of a tunnel proved in its handshake.
func provedBy(conn *hbone.Conn) mesh.Identity {
	state, ok := conn.ConnectionState()
	if !ok {
		return mesh.Identity{}
	}
	peer, err := mtls.Peer(state)
	if err != nil {
		return mesh.Identity{}
	}
	return peer
}
