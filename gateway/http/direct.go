// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
)

// directBody is how large a request's body may be, in bytes, of a request that a direct carries.
const directBody = 64 << 10

// errStale means that a backend had closed a connection that was kept, before it had seen anything of a request.
var errStale = errors.New("the connection was closed by the endpoint while it was kept")

// direct carries requests over HTTP/1.1 connections that it keeps, each driven by the goroutine of the request that has it, and a second one while there is a body to write: what a Transport's two
// goroutines per connection, and handing over between them, cost most of the time of a small request.
type direct struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	handshake time.Duration // at most, for TLS
	idle      idleConns
}

// takes says whether a request is of the plain kind, which is nearly every one: asked and then answered. What is a conversation in both directions is not.
func (d *direct) takes(r *http.Request) bool {
	return r.ContentLength >= 0 && r.ContentLength <= directBody && len(r.TransferEncoding) == 0 && len(r.Trailer) == 0 &&
		r.Header["Upgrade"] == nil && r.Header["Expect"] == nil && r.Method != http.MethodConnect && (r.ContentLength > 0 || r.Body == nil || r.Body == http.NoBody)
}

// carry sends a request to an endpoint and gives its answer, whose body must be read or closed. A kept connection that turns out to be closed is
// replaced by a new one, if that repeats nothing.
func (d *direct) carry(to Endpoint, r *http.Request) (*http.Response, error) {
	at := place{to.Addr, to.TLS}
	if c := d.idle.take(at); c != nil {
		response, err := c.exchange(r)
		if err == nil || !errors.Is(err, errStale) || !repeatable(r) || r.Context().Err() != nil {
			return response, err
		}
	}
	nc, err := d.dial(r.Context(), "tcp", to.Addr.String())
	if err == nil && to.TLS != nil {
		nc, err = to.TLS.Client(r.Context(), nc, backendtls.HTTP1, d.handshake)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return newDirectConn(nc, at, &d.idle).exchange(r)
}

// repeatable says whether a request may be sent again although the endpoint may have seen it: RFC 9110, 9.2.2. Its body would have to be read again.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return r.ContentLength == 0
	}
	return false
}

// sweepEvery is how often connections are looked for that were kept long enough.
const sweepEvery = idleAtEndpoint / 4

func (d *direct) forget() { d.idle.closeAll() }

// past is a deadline that is over.
var past = time.Unix(1, 0)
