// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

const (
	// connectDeadline is for everything between an application's connect and the 200 of the last hop, with all attempts.
	connectDeadline = 10 * time.Second
	// attemptTimeout is for an attempt while there are other endpoints, so that a dead host leaves time for them. The last one has all the
	// time that is left: a busy machine is not a dead one.
	attemptTimeout = 3 * time.Second
	// maxAttempts bounds how many endpoints one connection tries.
	maxAttempts = 5
	// innerFarewell is how long an inner tunnel may take to say goodbye when its only stream has ended.
	innerFarewell = 5 * time.Second
)

// tunnelKey names the connections that may be shared: one per source identity, next hop identities and address. The pool is the pod's
// own, because the far end shows the tunnel's address to its application.
type tunnelKey struct {
	source mesh.Identity
	next   string // SPIFFE ids joined by spaces, in order
	dial   netip.AddrPort
	host   string
}

// dialled is an established upstream connection.
type dialled struct {
	relay.Conn
	// peer is what the last hop proved; zero for plain TCP.
	peer mesh.Identity
	// answer are the headers of the last hop's 200.
	answer hbone.Header
	// gatewayAnswer are those of the gateway's, for a double tunnel.
	gatewayAnswer hbone.Header
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
func (p *pod) connectUpstream(ctx context.Context, self *mesh.Workload, client, dst netip.AddrPort) (Plan, *dialled, *Refusal) {
	ctx, cancel := context.WithTimeout(ctx, connectDeadline)
	defer cancel()
	var (
		view    = p.proxy.o.View
		source  = Source{Network: p.proxy.o.Network, Workload: self}
		trace   = traceparent("")
		tried   = map[string]struct{}{}
		avoid   = p.proxy.health.avoid(dst) // and those tried
		failed  Plan
		failure *Refusal
	)
	for range maxAttempts {
		plan, refusal := Decide(view.Load(), source, dst, Choice{Avoid: avoid, Random: rand.Uint64N})
		if refusal != nil && refusal.Reason == ReasonNoEndpoint && len(avoid) > len(tried) {
			// Those that failed lately are better than none.
			avoid = maps.Clone(tried)
			plan, refusal = Decide(view.Load(), source, dst, Choice{Avoid: avoid, Random: rand.Uint64N})
		}
		if refusal != nil && plan.Picked == "" {
			if failure != nil {
				return failed, nil, failure // nothing else is left: what went wrong before says more
			}
			return plan, nil, refusal
		}
		var d *dialled
		if refusal == nil {
			h := headers{source: self, client: client, trace: trace}
			if plan.Service != nil {
				h.host = plan.Service.Hostname
			}
			d, refusal = p.dialPlan(ctx, self.Identity(), plan, h)
		}
		if refusal == nil {
			if plan.Picked != "" {
				p.proxy.health.worked(plan.Picked, dst)
			}
			return plan, d, nil
		}
		failed, failure = plan, refusal
		if plan.Picked == "" || final(refusal) {
			break
		}
		if answered(plan, refusal) {
			p.proxy.health.failed(plan.Picked, dst)
		} else {
			p.proxy.health.failed(plan.Picked, netip.AddrPort{})
		}
		if ctx.Err() != nil {
			break
		}
		p.proxy.metrics.retries.Inc()
		avoid[plan.Picked], tried[plan.Picked] = struct{}{}, struct{}{}
	}
	return failed, nil, failure
}

// final says that trying elsewhere would be wrong: the far end has judged who we are or what we asked.
func final(r *Refusal) bool {
	return r.Status == http.StatusUnauthorized || r.Status == http.StatusBadRequest || r.Reason == ReasonIdentity
}

// answered says that an endpoint failed only for what it was asked for: the proxy in front of it answered, or there is none, and another
// of its ports may be served.
func answered(plan Plan, r *Refusal) bool {
	_, refused := errors.AsType[*hbone.RefusedError](r.Err)
	return refused || plan.Via == Direct
}

func (p *pod) dialPlan(ctx context.Context, source mesh.Identity, plan Plan, h headers) (*dialled, *Refusal) {
	if plan.Others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
	}
	switch plan.Via {
	case HBONE:
		stream, answer, refusal := p.openTunnel(ctx, source, plan, h.list())
		if refusal != nil {
			return nil, refusal
		}
		return &dialled{Conn: stream, peer: provedBy(stream.Conn()), answer: answer, finish: func() {}}, nil
	case DoubleHBONE:
		return p.dialDouble(ctx, source, plan, h.list())
	default:
		nc, err := p.dialTCP(ctx, plan.Host, plan.Dial)
		if err != nil {
			return nil, refusalOf(err)
		}
		return &dialled{Conn: nc, finish: func() {}}, nil
	}
}

// openTunnel opens a stream in a shared tunnel to the next hop.
func (p *pod) openTunnel(ctx context.Context, source mesh.Identity, plan Plan, h hbone.Header) (*hbone.Stream, hbone.Header, *Refusal) {
	next := make([]string, len(plan.Next))
	for i, id := range plan.Next {
		next[i] = id.String()
	}
	key := tunnelKey{source: source, next: strings.Join(next, " "), dial: plan.Dial, host: plan.Host}
	stream, answer, err := p.tunnels.Open(ctx, key, plan.Target, h)
	if err != nil {
		return nil, nil, refusalOf(fmt.Errorf("tunnel to %v for %s: %w", plan.Dial, plan.Target, err))
	}
	return stream, answer, nil
}

// dialTunnel makes a tunnel for the pool.
func (p *pod) dialTunnel(ctx context.Context, key tunnelKey) (*hbone.Conn, error) {
	nc, err := p.dialTCP(ctx, key.host, key.dial)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(hbone.NewTransport(nc), p.proxy.o.Certificates.Client(key.source, parse(strings.Fields(key.next))))
	if err := secured.HandshakeContext(ctx); err != nil {
		shut(nc)
		return nil, tlsError(err)
	}
	conn, err := hbone.NewClient(secured, p.proxy.tunnelSettings())
	if err != nil {
		secured.Close()
		return nil, &hopError{reason: ReasonTunnel, err: err}
	}
	return conn, nil
}

// dialDouble opens an inner tunnel to the last hop inside a stream of the outer one. The inner tunnel carries this one stream: behind
// the gateway it ends at one pod, and sharing it would send everything there.
func (p *pod) dialDouble(ctx context.Context, source mesh.Identity, plan Plan, h hbone.Header) (*dialled, *Refusal) {
	outer, gatewayAnswer, refusal := p.openTunnel(ctx, source, plan, h)
	if refusal != nil {
		return nil, refusal
	}
	secured := tls.Client(hbone.NewTransport(outer), p.proxy.o.Certificates.Client(source, plan.Last))
	if err := secured.HandshakeContext(ctx); err != nil {
		outer.Close()
		return nil, refusalOf(fmt.Errorf("inner tunnel through %v for %s: %w", plan.Dial, plan.Target, tlsError(err)))
	}
	inner, err := hbone.NewClient(secured, p.proxy.tunnelSettings())
	if err != nil {
		secured.Close()
		return nil, refusalOf(fmt.Errorf("inner tunnel through %v for %s: %w", plan.Dial, plan.Target, err))
	}
	stream, answer, err := inner.Open(ctx, plan.Target, append(h, hbone.Field{Name: headerNetwork, Value: p.proxy.o.Network}))
	if err != nil {
		inner.Close()
		return nil, refusalOf(fmt.Errorf("inner tunnel through %v for %s: %w", plan.Dial, plan.Target, err))
	}
	return &dialled{
		Conn: stream, peer: provedBy(inner), answer: answer, gatewayAnswer: gatewayAnswer,
		finish: func() {
			ctx, cancel := context.WithTimeout(context.Background(), innerFarewell)
			defer cancel()
			inner.Shutdown(ctx) //nolint:errcheck // nothing is left that could be lost
		},
	}, nil
}

// dialTCP connects from inside the pod's namespace. A host is resolved here, by the proxy's own resolver.
func (p *pod) dialTCP(ctx context.Context, host string, to netip.AddrPort) (*net.TCPConn, error) {
	if host != "" && !to.Addr().IsValid() {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, &hopError{reason: ReasonConnect, err: fmt.Errorf("resolve %s: %w", host, err)}
		}
		to = netip.AddrPortFrom(addrs[0].Unmap(), to.Port())
	}
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
	return &hopError{reason: ReasonTLS, err: fmt.Errorf("TLS handshake: %w", err)}
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
