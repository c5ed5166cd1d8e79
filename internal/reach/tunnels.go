// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/inner"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// TunnelOptions are what Tunnels need.
type TunnelOptions struct {
	Certificates *mtls.Source
	// Connect makes a TCP connection from where the tunnels begin.
	Connect func(ctx context.Context, to netip.AddrPort) (relay.Conn, error)
	// Settings are those of every tunnel.
	Settings hbone.Settings
	// Health is the source's, and told of gateways that fall silent.
	Health *Health
	// Resolver looks hosts up that are known by name only; nil: net.DefaultResolver. Its answers are remembered for some seconds, and for minutes while it has no newer one.
	Resolver Resolver
	// Resolving, if set, hears of each look-up, and Handshaking of each handshake as a client: "outer" or "inner".
	Resolving   func()
	Handshaking func(which string)
	// Unwidened, if set, hears of each tunnel that could not be made beside others, of a connection that has one.
	Unwidened func(error)
	// Cut, if set, hears of each tunnel that has fallen silent and is left for others to the same gateway: which of them it is, and why. It must not block.
	Cut func(lane int, why *Refusal)
}

// Tunnels carry plans out, from one place: tunnels to next hops, and inner tunnels through gateways, are shared among all connections of one identity.
type Tunnels struct {
	o      TunnelOptions
	outer  *hbone.Pool[tunnelKey]
	inners *inner.Pool
	away   away

	watching context.Context // ends when they drain
	unwatch  context.CancelFunc
	watches  sync.WaitGroup
}

// NewTunnels makes Tunnels, of which there are none at first.
func NewTunnels(o TunnelOptions) *Tunnels {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Resolving == nil {
		o.Resolving = func() {}
	}
	if o.Handshaking == nil {
		o.Handshaking = func(string) {}
	}
	if o.Unwidened == nil {
		o.Unwidened = func(error) {}
	}
	if o.Cut == nil {
		o.Cut = func(int, *Refusal) {}
	}
	t := &Tunnels{o: o, inners: inner.NewPool(func(lane int, why error) {
		if outer, ok := errors.AsType[*outerError](why); ok {
			o.Cut(lane, outer.Refusal)
			return
		}
		o.Cut(lane, RefusalOf(why))
	})}
	t.watching, t.unwatch = context.WithCancel(context.Background())
	t.o.Resolver = &lookups{next: o.Resolver, asking: o.Resolving, within: t.watching, work: &t.watches, names: map[string]*lookup{}}
	t.outer = hbone.NewPool(t.dialTunnel, hbone.PoolSettings{})
	return t
}

// Drain has nothing be dialled any more, and each tunnel end with its last connection.
func (t *Tunnels) Drain() {
	t.unwatch()
	t.inners.Drain()
	t.outer.Drain()
}

// Close ends all tunnels now, and waits until they have ended. No Dial may be under way.
func (t *Tunnels) Close() error {
	t.unwatch()
	t.watches.Wait()
	return errors.Join(t.inners.Close(), t.outer.Close())
}

// Inner says how many inner tunnels are kept, and how many connections they carry.
func (t *Tunnels) Inner() (sessions, streams int) { return t.inners.Counts() }

// tunnelKey names the connections that may be shared: one per source identity, next hop identities and address. The pool is the source's
// own, because the far end shows the tunnel's address to its application.
type tunnelKey struct {
	source mesh.Identity
	next   string // SPIFFE ids joined by spaces, in order
	dial   netip.AddrPort
	// via is the gateway that is dialled, or the zero value: what becomes of the connection says how the gateway does.
	via ejected
	// pod is the UID of the endpoint that is dialled, if it is one: a tunnel to whoever had its address before leads elsewhere, or nowhere.
	pod string
	// lane is which of several to the same gateway it is.
	lane int
	// several says that the next hop has other addresses, which are tried if this one does not answer.
	several bool
}

// outerKey is that of the tunnel to a plan's next hop, in a lane.
func outerKey(source mesh.Identity, plan Plan, lane int) tunnelKey {
	key := tunnelKey{source: source, next: joined(plan.Next), dial: plan.Dial, via: gatewayOf(plan), lane: lane, several: plan.Several}
	if pod := plan.dialled(); pod != nil {
		key.pod = pod.UID
	}
	return key
}

// unanswered is why there is no tunnel if nobody answers at all.
func (k tunnelKey) unanswered() error {
	if k.via == (ejected{}) && k.dial.Port() == mesh.HBONEPort {
		return &HopError{Reason: ReasonNetworkPolicy, Err: fmt.Errorf("no answer from %v, which is gone, or a NetworkPolicy lets nothing through to port %d", k.dial, mesh.HBONEPort)}
	}
	return &HopError{Reason: ReasonConnect, Err: fmt.Errorf("no answer from %v", k.dial)}
}

// errUnproved is why there is none if who answers does not say who it is.
var errUnproved error = &HopError{Reason: ReasonTLS, Err: errors.New("TLS handshake")}

// Conn is an established connection to an endpoint.
type Conn struct {
	relay.Conn
	// Peer is what the last hop proved; zero for plain TCP.
	Peer mesh.Identity
	// Answer are the headers of the last hop's 200.
	Answer hbone.Header
	// Tunnel is what the connection is a stream of, and Leaving says that no more are opened in it: one of its ends drains, or it is over. nil for plain TCP.
	Tunnel  *hbone.Conn
	Leaving func() bool
	// Finish says goodbye, once, when the connection is over; it does not close it.
	Finish func()
}

// Dial connects to what a plan says as source, with a CONNECT's headers. network is where source is, for a double tunnel's far end: a claim. A next hop that is known by name is tried at its other
// addresses if nobody answers at the first one.
func (t *Tunnels) Dial(ctx context.Context, source mesh.Identity, plan Plan, header hbone.Header, network string) (*Conn, *Failure) {
	plans, err := t.ways(ctx, plan)
	if err != nil {
		return nil, &Failure{Refusal: RefusalOf(err), Gateway: plan.Via == DoubleHBONE}
	}
	for i, to := range plans {
		conn, failure := t.dial(ctx, source, to, slices.Clip(header), network)
		if failure == nil || i == len(plans)-1 || ctx.Err() != nil {
			return conn, failure
		}
		if _, ok := errors.AsType[unreachedError](failure.Refusal); !ok { // who answers is not asked again somewhere else
			return conn, failure
		}
	}
	panic("no plan") // ways gives one at least
}

// ways gives a plan for each address of the next hop, one at least: those first that are not known to be away.
func (t *Tunnels) ways(ctx context.Context, plan Plan) ([]Plan, error) {
	if plan.Host == "" {
		return []Plan{plan}, nil
	}
	plans, err := resolved(ctx, t.o.Resolver, plan)
	return t.away.last(plans), err
}

func (t *Tunnels) dial(ctx context.Context, source mesh.Identity, plan Plan, header hbone.Header, network string) (*Conn, *Failure) {
	switch plan.Via {
	case HBONE:
		stream, answer, refusal := t.open(ctx, source, plan, header, 0)
		if refusal != nil {
			return nil, &Failure{Refusal: refusal}
		}
		return &Conn{Conn: stream, Peer: provedBy(stream.Conn()), Answer: answer, Tunnel: stream.Conn(), Leaving: stream.Conn().Draining, Finish: func() {}}, nil
	case DoubleHBONE:
		return t.dialDouble(ctx, source, plan, header, network)
	default:
		nc, err := t.connect(ctx, plan.Dial, plan.Several)
		if err != nil {
			return nil, &Failure{Refusal: RefusalOf(err)}
		}
		if plan.Several {
			t.away.note(plan.Dial, true)
		}
		return &Conn{Conn: nc, Finish: func() {}}, nil
	}
}

// open opens a stream in a shared tunnel to the next hop, in a lane.
func (t *Tunnels) open(ctx context.Context, source mesh.Identity, plan Plan, h hbone.Header, lane int) (*hbone.Stream, hbone.Header, *Refusal) {
	key := outerKey(source, plan, lane)
	if pod := plan.dialled(); pod != nil {
		h = append(slices.Clip(h), hbone.Field{Name: HeaderPod, Value: PodName(pod)})
	}
	stream, answer, err := t.outer.Open(ctx, key, plan.Target, h)
	if err != nil {
		return nil, nil, RefusalOf(fmt.Errorf("tunnel to %v for %s: %w", plan.Dial, plan.Target, err))
	}
	return stream, answer, nil
}

// dialTunnel makes a tunnel for the pool.
func (t *Tunnels) dialTunnel(ctx context.Context, key tunnelKey) (*hbone.Conn, error) {
	unanswered := key.unanswered()
	hbone.Dialling(ctx, unanswered)
	nc, err := t.connect(ctx, key.dial, key.several)
	if err != nil && (ctx.Err() != nil || errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, errAddressSilent)) {
		return nil, fmt.Errorf("%w: %w", unanswered, err)
	}
	if err != nil {
		return nil, err
	}
	hbone.Dialling(ctx, errUnproved)
	// Now, so that whoever hangs up in the handshake is the next hop, and not the one who issues our certificate.
	if _, err := t.o.Certificates.Certificate(ctx, key.source); err != nil {
		nc.Close()
		return nil, TLSError(err)
	}
	t.o.Handshaking("outer")
	next, began := parse(strings.Fields(key.next)), time.Now()
	secured := tls.Client(hbone.NewTransport(nc), t.o.Certificates.Client(key.source, next))
	err = secured.HandshakeContext(ctx)
	gone := ctx.Err() != nil && err != nil
	hungUp := !gone && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
	if key.several && (!gone || time.Since(began) >= addressTimeout) { // else nobody waits any more, which says nothing of who is there
		t.away.note(key.dial, !gone && !hungUp)
	}
	if err != nil {
		nc.Close()
		if err = TLSError(err); key.several && hungUp {
			err = unreachedError{err}
		}
		return nil, err
	}
	conn, err := hbone.NewClient(secured, t.gatewaySettings(key))
	if err != nil {
		secured.Close()
		return nil, &HopError{Reason: ReasonTunnel, Err: err}
	}
	t.o.Certificates.Guard(conn, next...)
	return conn, nil
}

// errAddressSilent is why one of several addresses is given up.
var errAddressSilent = fmt.Errorf("nobody has answered within %v", addressTimeout)

// unreachedError is that nobody has answered at one of several addresses, or hung up without a word: the next one may be tried.
type unreachedError struct{ error }

func (e unreachedError) Unwrap() error { return e.error }

// connect makes a TCP connection. If it is to one of several addresses, it leaves time for the others, and it is remembered if nobody has answered. That somebody has is for the caller to
// remember: a load balancer may take connections for which it has nobody.
func (t *Tunnels) connect(ctx context.Context, to netip.AddrPort, several bool) (relay.Conn, error) {
	connecting := ctx
	if several {
		var cancel context.CancelFunc
		connecting, cancel = context.WithTimeoutCause(ctx, addressTimeout, errAddressSilent)
		defer cancel()
	}
	nc, err := t.o.Connect(connecting, to)
	if err == nil {
		return nc, nil
	}
	if cause := context.Cause(connecting); errors.Is(cause, errAddressSilent) {
		err = cause
	}
	if several && ctx.Err() == nil { // else nobody waits any more, which says nothing of who is there
		t.away.note(to, false)
		err = unreachedError{err}
	}
	return nil, &HopError{Reason: ReasonConnect, Err: err}
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
