// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// servePlaintext carries one connection that reached the pod without a tunnel. Nobody proved anything, so the peer is nobody.
func (p *pod) servePlaintext(ctx context.Context, nc *net.TCPConn) {
	defer shut(nc)
	tune(nc)
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	target := originalDst(nc)
	conn := &Connection{
		Direction: Inbound, Tunnel: reach.Direct.String(), Opened: time.Now(), Pod: p.String(), Service: target.String(),
		Source: addrPort(nc.RemoteAddr()), Destination: target, pod: p, abort: abort,
		span: p.proxy.o.Tracer.Start(tracing.Server, spanInbound, ""),
	}
	refusal := p.relayPlaintext(ctx, conn, nc)
	if refusal != nil {
		nc.SetLinger(0) //nolint:errcheck // the client is to see a failure, not an orderly end
	}
	p.proxy.ended(conn, 0, refusal)
}

func (p *pod) relayPlaintext(ctx context.Context, conn *Connection, nc *net.TCPConn) *Refusal {
	self, refusal := p.workload(ctx)
	if refusal != nil {
		return refusal
	}
	conn.self = self
	conn.remote = p.proxy.inboundParty(conn, nil)
	conn.meant = p.proxy.meantService(self, Forwarded{})
	if ownPort(conn.Destination.Port()) {
		return unavailable(ReasonOwnPort, "port %d is the proxy's own", conn.Destination.Port())
	}
	defer p.proxy.connections.remove(conn)
	self, refusal = p.proxy.admit(conn)
	if refusal != nil {
		return refusal
	}
	if t := self.AppTunnel; t != nil && t.Proxy && (t.Port == 0 || t.Port == conn.Destination.Port()) {
		// It believes what is written there of who calls.
		return unavailable(reach.ReasonBadTarget, "port %d takes what comes in tunnels only", conn.Destination.Port())
	}
	dialCtx, cancel := context.WithTimeout(ctx, reach.ConnectDeadline)
	defer cancel()
	app, err := p.dialApplication(dialCtx, conn.Destination, conn.Source.Addr())
	if err != nil {
		if refusal, ok := errors.AsType[*Refusal](context.Cause(ctx)); ok {
			return refusal
		}
		return unavailable(reach.ReasonConnect, "application: %w", err)
	}
	defer shut(app)
	p.proxy.metrics.opened(conn)
	return p.proxy.relay(ctx, conn, nc, app)
}
