// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// placed is a Carrier over connections that somebody else makes, for endpoints that no address tells apart.
type placed struct{ http1, http2 *http.Transport }

type endpointKey struct{}

// NewPlaced makes a Carrier that connects with dial. Connections are kept by the host and port of the requests' URLs, the place: whoever asks sets it, so that two endpoints, or two
// identities that are expected of one, never have the same. It must not be looked up, so it need not be a name of anything.
func NewPlaced(dial func(ctx context.Context, place string, to Endpoint) (net.Conn, error)) Carrier {
	make1 := func(set func(*http.Protocols)) *http.Transport {
		protocols := &http.Protocols{}
		set(protocols)
		return &http.Transport{
			Protocols: protocols, DisableCompression: true, MaxIdleConnsPerHost: idlePerEndpoint, IdleConnTimeout: idleAtEndpoint,
			ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: answerHeaderBytes,
			DialContext: func(ctx context.Context, _, place string) (net.Conn, error) {
				to, _ := ctx.Value(endpointKey{}).(Endpoint)
				conn, err := dial(ctx, place, to)
				if err != nil {
					return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
				}
				return conn, nil
			},
		}
	}
	return &placed{
		http1: make1(func(p *http.Protocols) { p.SetHTTP1(true) }),
		http2: make1(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }),
	}
}

// Carry implements Carrier.
func (c *placed) Carry(to Endpoint, r *http.Request) (*http.Response, error) {
	r = r.WithContext(context.WithValue(r.Context(), endpointKey{}, to))
	if to.HTTP2 && r.Header.Get("Upgrade") == "" { // HTTP/2 has no upgrades
		return c.http2.RoundTrip(r)
	}
	return c.http1.RoundTrip(r)
}

// Forget implements Carrier.
func (c *placed) Forget() {
	c.http1.CloseIdleConnections()
	c.http2.CloseIdleConnections()
}
