// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// outlet is the far side of a connection that came by a port for TCP or TLS.
type outlet struct {
	conn relay.Conn
	note func(*record) // tells the log where it goes
	done func()        // closes it
}

// connect finds an endpoint for a connection that was admitted, until ctx ends. Endpoints in the mesh, or in other networks, are reached in tunnels, under the identity of the
// gateway, with TLS inside if the target wants it.
func (p *streamPort) connect(ctx context.Context, st *stream, t target) (*outlet, *Refusal) {
	s := p.server
	c := s.config.Load()
	if s.sockets.has(st.at) {
		return nil, unavailable(ReasonLoop, nil)
	}
	if c.meshed(s.live.Load(), t.service) {
		to, refusal := s.reach(ctx, "", c, t, st)
		if refusal != nil {
			return nil, refusal
		}
		return &outlet{to.conn, func(r *record) { r.reached(to) }, to.close}, nil
	}
	d, refusal := s.dial(ctx, c, t, nil)
	unnote := func() {}
	if refusal == nil {
		unnote = s.sockets.add(endOf(d.conn.LocalAddr()))
	}
	done := func() {
		unnote()
		d.conn.Close()
		s.judge(d)
	}
	if refusal == nil && s.sockets.has(st.at) { // it may have come before whoever made it could note it
		done()
		return nil, unavailable(ReasonLoop, nil)
	}
	if revoked := st.revoked(); revoked != nil {
		if refusal == nil {
			done()
		}
		refusal = revoked
	}
	if refusal != nil {
		return nil, refusal
	}
	d.service = t.named
	return &outlet{d.conn, func(r *record) { r.dialled(d) }, done}, nil
}

// meshed says whether a service, which is behind no waypoint, has endpoints that are reached in tunnels.
func (c *config) meshed(v *directory.View, service *mesh.Service) bool {
	return !service.Fronted() && slices.ContainsFunc(v.Endpoints(service.Key()), func(w *mesh.Workload) bool {
		return w.Network != c.network || w.NetworkGateway != nil || w.Tunnel == mesh.TunnelHBONE
	})
}
