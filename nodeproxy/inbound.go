// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// statusDenied is the answer to a peer that policy refuses; it is 401 on this wire, not 403.
const statusDenied = http.StatusUnauthorized

// handshakeTimeout is for a peer's TLS handshake, including the wait for our own certificate.
const handshakeTimeout = 10 * time.Second

// arrival is a tunnel from a peer, who has proved who it is.
type arrival struct {
	peer mesh.Identity
	// until is when the certificate ends that proved it.
	until time.Time
	nc    *net.TCPConn
	// confined is what alone may be asked for, by the word of whoever led the tunnel here; "": it said nothing.
	confined string
}

// serveTunnel serves one tunnel from a peer: a proxy, a waypoint, or the inner tunnel of a double one.
func (p *pod) serveTunnel(ctx context.Context, nc *net.TCPConn) {
	tune(nc)
	from := arrival{nc: nc}
	secured, err := p.handshake(ctx, &from)
	if err != nil {
		shut(nc)
		p.refuseTunnel(nc, err)
		return
	}
	conn := hbone.NewServer(secured, p.proxy.tunnelSettings())
	defer conn.Close()
	if !p.tunnelsIn.add(conn, from.peer) {
		p.refuseTunnel(nc, fmt.Errorf("%s has as many tunnels as it may: %w", from.peer, stranger.ErrCrowded))
		return
	}
	defer p.tunnelsIn.remove(conn)
	defer p.proxy.o.Certificates.Guard(conn)()
	// What its peer opens from here on is opened in another tunnel, by the certificate that it has then.
	defer time.AfterFunc(mtls.DrainIn(from.until, time.Now()), conn.Drain).Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		request, err := conn.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				// Our peer is gone or draining: what still runs may end in peace.
				running.Wait()
			}
			return
		}
		running.Go(func() { p.serveRequest(ctx, request, from) })
		runtime.Gosched() // that comes before the look for another one
	}
}

// refuseTunnel tells of a tunnel that did not come to be; the peer was told nothing. Who only looked whether the port is open is not
// worth a line.
func (p *pod) refuseTunnel(nc *net.TCPConn, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if errors.Is(err, stranger.ErrCrowded) {
		p.proxy.metrics.handshakeFailures.WithLabelValues(string(ReasonCrowded)).Inc()
		return // a flood of lines would be a second attack
	}
	refusal := &Refusal{Status: http.StatusServiceUnavailable, Reason: reasonOf(err), Err: err}
	p.proxy.metrics.handshakeFailures.WithLabelValues(string(refusal.Reason)).Inc()
	p.proxy.ended(&Connection{
		Direction: Inbound, Tunnel: reach.HBONE.String(), Opened: time.Now(), Pod: p.String(), Source: addrPort(nc.RemoteAddr()), pod: p,
		self: p.lookup(p.proxy.o.View.Load()),
	}, 0, refusal)
}

// handshake proves the local pod to a peer, and learns who the peer is and what it is confined to. How many are computed at once is bounded for each pod, for each costs a
// millisecond of a CPU. A turn is taken only when our side is prepared and the peer has begun, and is not held while it is silent, so that neither a missing
// certificate nor silent peers keep others waiting.
func (p *pod) handshake(ctx context.Context, from *arrival) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	unknown, err := p.proxy.strangers.Enter(from.nc, p.handshakes)
	if err != nil {
		return nil, err
	}
	defer unknown.Leave()
	if from.confined, err = unknown.ConfinedHello(ctx); err != nil {
		return nil, fmt.Errorf("waiting for the peer to speak: %w", err)
	}
	var self *mesh.Workload
	if err := unknown.Prepare(ctx, func(ctx context.Context) error {
		w, refusal := p.workload(ctx)
		if refusal != nil {
			return refusal
		}
		self = w
		if _, err := p.proxy.o.Certificates.Certificate(ctx, w.Identity()); err != nil {
			return &reach.HopError{Reason: reach.ReasonIdentity, Err: err}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := unknown.Turn(ctx); err != nil {
		return nil, fmt.Errorf("waiting for a turn: %w", err)
	}
	transport := hbone.NewTransport(from.nc)
	transport.Conn = unknown
	secured := tls.Server(transport, p.proxy.o.Certificates.Server(self.Identity()))
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, reach.TLSError(err)
	}
	transport.Conn = from.nc
	state := secured.ConnectionState()
	if from.peer, err = mtls.Peer(state); err != nil {
		return nil, err
	}
	from.until = state.PeerCertificates[0].NotAfter
	return secured, nil
}

func reasonOf(err error) Reason {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Reason
	}
	return reach.RefusalOf(err).Reason
}

// serveRequest carries one stream of a tunnel to the local application.
func (p *pod) serveRequest(ctx context.Context, request *hbone.Request, from arrival) {
	relay.GrowStack()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	conn := &Connection{
		Direction: Inbound, Tunnel: reach.HBONE.String(), Opened: time.Now(), Pod: p.String(), Peer: from.peer, Service: request.Authority,
		Source: addrPort(from.nc.RemoteAddr()), pod: p, abort: abort, span: p.proxy.o.Tracer.Start(tracing.Server, spanInbound, request.Header.Get(headerTrace)),
	}
	// Only the inner tunnel of a double one says where its source is.
	if network := forwardedNetwork(request.Header.Get(reach.HeaderNetwork)); network != "" {
		conn.Network, conn.Tunnel = network, reach.DoubleHBONE.String()
	}
	status, refusal := p.relayInbound(ctx, conn, request, from)
	if refusal != nil && status != http.StatusOK {
		request.Reject(refusal.Status, nil) //nolint:errcheck // the peer is gone already
		status = refusal.Status
	}
	p.proxy.ended(conn, status, refusal)
}

// relayInbound answers 200 when the application is connected, and then relays. It gives the status that was sent, 0 if none yet.
func (p *pod) relayInbound(ctx context.Context, conn *Connection, request *hbone.Request, from arrival) (int, *Refusal) {
	self, refusal := p.workload(ctx)
	if refusal != nil {
		return 0, refusal
	}
	conn.self = self
	conn.remote = p.proxy.inboundParty(conn, request.Header)
	if time.Now().After(from.until) {
		return 0, refuse(statusDenied, ReasonExpired, "the certificate by which %s opened the tunnel ended at %s", from.peer, from.until.UTC().Format(time.RFC3339))
	}
	view := p.proxy.o.View.Load()
	target, refusal := resolveTarget(view, self, addrPort(from.nc.LocalAddr()).Addr(), request.Authority)
	if refusal == nil {
		refusal = beyond(view.Through(p.proxy.networkOf(self), conn.Source.Addr(), func(gateway mesh.Identity) bool {
			return p.proxy.o.Certificates.Expected([]mesh.Identity{gateway}, conn.Peer)
		}), target)
	}
	if refusal == nil {
		refusal = outside(from.confined, target)
	}
	conn.Destination = target.At
	if conn.meant = target.Service; conn.meant == nil {
		conn.meant = p.proxy.meantService(self, Forwarded{Host: ParseForwarded(request.Header.Get(headerForwarded)).Host})
	}
	if refusal != nil {
		return 0, refusal
	}
	if meant := request.Header.Get(reach.HeaderPod); reach.ForAnotherPod(meant, self) {
		// Its address is ours now, and whoever sent this has not been told.
		return 0, unavailable(ReasonNotEndpoint, "%s/%s is not pod %s, which was meant", self.Namespace, self.Name, meant)
	}
	defer p.proxy.connections.remove(conn)
	if _, refusal := p.proxy.admit(conn); refusal != nil {
		return 0, refusal
	}
	// A peer that gives up, or a policy that turns, ends the attempt.
	dialCtx, cancel := context.WithTimeout(ctx, reach.ConnectDeadline)
	defer cancel()
	defer context.AfterFunc(request.Context(), cancel)()
	app, err := p.hand(dialCtx, conn, target)
	if err != nil {
		if refusal, ok := errors.AsType[*Refusal](context.Cause(ctx)); ok {
			return 0, refusal
		}
		return 0, unavailable(reach.ReasonConnect, "application: %w", err)
	}
	defer shut(app)
	stream, err := request.Accept(hbone.Header{{Name: headerBaggage, Value: BaggageOf(self).String()}})
	if err != nil {
		return http.StatusOK, unavailable(ReasonBroken, "answer the peer: %w", err)
	}
	defer stream.Close()
	p.proxy.metrics.opened(conn)
	return http.StatusOK, p.proxy.relay(ctx, conn, stream, app)
}

// hand connects to the local application, and tells it of the connection if it wants to be told.
func (p *pod) hand(ctx context.Context, conn *Connection, t target) (relay.Conn, error) {
	if t.Dial.Addr().IsLoopback() {
		// What stands for others is spoken to from where it is, and told by the header who calls.
		app, err := p.dialTCP(ctx, t.Dial)
		if err == nil && t.Proxy {
			if _, err = app.Write(proxyHeader(conn.Source, t.Meant, conn.Peer, t.Service)); err != nil {
				shut(app)
			}
		}
		return app, err
	}
	return p.dialApplication(ctx, t.Dial, conn.Source.Addr())
}

// dialApplication connects to the local application, under the caller's address if the kernel lets us.
func (p *pod) dialApplication(ctx context.Context, target netip.AddrPort, caller netip.Addr) (*net.TCPConn, error) {
	nc, unspoofed, err := p.proxy.sockets.dial(ctx, p.namespace, target, caller, p.listensOn)
	if err == nil && unspoofed != nil {
		p.proxy.metrics.unspoofed.Inc()
		p.proxy.o.Log.V(1).Info("the caller's address is not shown to the application", "workload", p.String(), "source", caller.String(), "destination", target.String(), "cause", unspoofed.Error())
	}
	return nc, err
}

// listensOn says whether a service leads to this port of the pod, so that its application listens there, or will when it has started again.
func (p *pod) listensOn(port uint16) bool {
	self := p.lookup(p.proxy.o.View.Load())
	if self == nil {
		return false
	}
	for _, ports := range self.Services {
		if slices.ContainsFunc(ports, func(led mesh.Port) bool { return led.Target == port }) {
			return true
		}
	}
	return false
}
