// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// serveOutbound carries one connection that the pod's application opened.
func (p *pod) serveOutbound(ctx context.Context, app *net.TCPConn) {
	defer shut(app)
	connected := sync.OnceFunc(p.connecting.Done)
	defer connected()
	relay.GrowStack()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)

	dst, client := originalDst(app), addrPort(app.RemoteAddr())
	conn := &Connection{
		Direction: Outbound, Tunnel: reach.Direct.String(), Opened: time.Now(), Pod: p.String(), Service: dst.String(), Source: client,
		pod: p, abort: abort, span: p.proxy.o.Tracer.Start(tracing.Client, spanOutbound, ""),
	}
	refusal := p.relayOutbound(ctx, conn, app, dst, connected)
	if refusal != nil {
		app.SetLinger(0) //nolint:errcheck // the application is to see a failure, not an orderly end
	}
	p.proxy.ended(conn, outboundStatus(conn, refusal), refusal)
}

// outboundStatus is what the far end of the tunnel answered, or would have: 0 for plain TCP, which has no answers.
func outboundStatus(conn *Connection, refusal *Refusal) int {
	switch {
	case conn.Tunnel == reach.Direct.String():
		return 0
	case conn.established:
		return http.StatusOK
	default:
		return refusal.Status
	}
}

// relayOutbound calls connected when the connection has an upstream.
func (p *pod) relayOutbound(ctx context.Context, conn *Connection, app *net.TCPConn, dst netip.AddrPort, connected func()) *Refusal {
	if dst == addrPort(app.LocalAddr()) {
		// Nobody captured this: the application dialled the listener itself. What we would dial for it is the listener again.
		return unavailable(ReasonOwnPort, "%v is the proxy itself", dst)
	}
	self, refusal := p.workload(ctx)
	if refusal != nil {
		return refusal
	}
	conn.self = self
	plan, upstream, refusal := p.connectUpstream(ctx, conn, dst)
	connected()
	conn.Tunnel, conn.meant, conn.Destination = plan.Via.String(), plan.Service, plan.Dial
	if plan.Service != nil {
		conn.Service = reach.HostPort(plan.Service.Hostname, dst.Port())
	}
	conn.remote = partyOf(plan.Endpoint)
	if refusal != nil {
		return refusal
	}
	defer upstream.Finish()
	defer upstream.Close()
	tune(app)
	conn.Peer = upstream.Peer
	if plan.Via == reach.DoubleHBONE {
		// Behind the gateway is one pod of many; only it can say which workload it is of.
		conn.remote = p.proxy.claims.believe(upstream.Peer, upstream.Answer.Get(headerBaggage))
	}
	conn.remote.principal = upstream.Peer

	p.proxy.began(conn)
	defer p.proxy.connections.remove(conn)
	return p.proxy.relay(ctx, conn, app, upstream.Conn)
}

// relay copies until both directions have ended.
func (x *Proxy) relay(ctx context.Context, conn *Connection, a, b relay.Conn) *Refusal {
	err := relay.Copy(ctx, a, b, &conn.Stats)
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*Refusal](context.Cause(ctx)); ok {
		return refusal
	}
	reason := ReasonBroken
	if _, ok := errors.AsType[*mtls.VerifyError](err); ok { // the Source ended the tunnel
		reason = reach.Distrust(err)
	}
	return unavailable(reason, "%w", fmt.Errorf("relay: %w", err))
}
