// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
)

// placed is a Carrier over connections that somebody else makes, for endpoints that no address tells apart.
type placed struct{ pairs pairs }

type endpointKey struct{}

// NewPlaced makes a Carrier that connects with dial. Connections are kept by the host and port of the requests' URLs, the place: whoever asks sets it, so that two endpoints, or two
// identities that are expected of one, never have the same. It must not be looked up, so it need not be a name of anything.
func NewPlaced(l Limits, dial func(ctx context.Context, place string, to Endpoint) (net.Conn, error)) Carrier {
	return &placed{pairs{handshake: l.withDefaults().ConnectTime, dial: func(ctx context.Context, _, place string) (net.Conn, error) {
		to, _ := ctx.Value(endpointKey{}).(Endpoint)
		return dial(ctx, place, to)
	}}}
}

// Carry implements Carrier.
func (c *placed) Carry(to Endpoint, r *http.Request) (*http.Response, error) {
	r = r.WithContext(context.WithValue(r.Context(), endpointKey{}, to))
	return c.pairs.of(to.TLS).carry(to.HTTP2 && r.Header.Get("Upgrade") == "", r) // HTTP/2 has no upgrades
}

// Retire implements Carrier.
func (c *placed) Retire(s *backendtls.Settings) { c.pairs.retire(s) }

// Forget implements Carrier.
func (c *placed) Forget() { c.pairs.forget() }
