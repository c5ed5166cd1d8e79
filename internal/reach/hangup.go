// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// connectError is the code of a stream whose far end was reset by its application (RFC 9113 §7).
const connectError = 0xa

// Ended notes what the end of a connection says of the endpoint that a plan connected for dst: what passed, and the error of relay.Copy from the application to c.
//
// That an endpoint was connected says little of its application. One that is sent something and resets the connection before the first byte of an answer counts as one that could not be connected, until
// another connection is answered: behind gateways the pod does, of which others hear nothing either. A client may have caused that, so only its own source passes the endpoint over, for
// what it dialled. What passes a waypoint says nothing, for that one is reset by whatever is behind it.
func (h *Health) Ended(c *Conn, plan Plan, dst netip.AddrPort, s *relay.Stats, err error) {
	switch {
	case s.Received.Load() > 0:
		h.answered(hangsUp(plan, dst))
	case s.Sent.Load() == 0 || !endpointPlanned(plan) || !resetBy(c, err):
	case plan.Via == DoubleHBONE:
		c.hungUp()
	case plan.Picked != "":
		h.doubt(hangsUp(plan, dst))
	}
}

// hangsUp is the name under which it is kept that a plan's endpoint hangs up on who asks for dst.
func hangsUp(plan Plan, dst netip.AddrPort) ejected {
	return ejected{uid: plan.Picked, dst: dst, hangsUp: true}
}

// answered forgets that an endpoint hung up.
func (h *Health) answered(key ejected) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ejected) > 0 {
		h.drop(key)
	}
}

// endpointPlanned says that a plan leads to an endpoint of its service, and not to a waypoint before it.
func endpointPlanned(plan Plan) bool {
	if plan.Service == nil || plan.Endpoint == nil {
		return false
	}
	_, own := plan.Endpoint.Services[plan.Service.Key()]
	return own
}

// resetBy says that an error is that the far end of a connection reset it.
func resetBy(c *Conn, err error) bool {
	if stream, ok := errors.AsType[*hbone.StreamError](err); ok {
		return stream.Remote && stream.Code == connectError
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && c.Tunnel == nil && op.Addr == c.RemoteAddr() && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}
