// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
)

const (
	// idlePerEndpoint is how many connections to one endpoint are kept for later. Under load each request in flight has one, and closing those
	// that are free for a moment would make the next request wait for another handshake.
	idlePerEndpoint = 512
	// idleAtEndpoint is how long a connection is kept without a request: below the 75 s after which many servers close theirs.
	idleAtEndpoint = 60 * time.Second
	// answerHeaderBytes is how much the headers of an answer may hold.
	answerHeaderBytes = 256 << 10
)

// transports is the Carrier of net/http: connections are kept per address, apart by protocol and by TLS settings. Plain requests in HTTP/1.1 have a way of their own.
type transports struct {
	direct direct
	pairs  pairs
}

// NewTransports makes a Carrier that connects with TCP, or with dial if it is not nil.
func NewTransports(l Limits, dial func(ctx context.Context, network, address string) (net.Conn, error)) Carrier {
	l = l.withDefaults()
	if dial == nil {
		dial = (&net.Dialer{Timeout: l.ConnectTime, KeepAlive: 30 * time.Second}).DialContext
	}
	return &transports{
		direct: direct{dial: dial, handshake: l.ConnectTime},
		pairs:  pairs{dial: dial, handshake: l.ConnectTime, acks: l.AckTime},
	}
}

// Carry implements Carrier.
func (t *transports) Carry(to Endpoint, r *http.Request) (*http.Response, error) {
	http2 := to.HTTP2 && r.Header.Get("Upgrade") == "" // HTTP/2 has no upgrades
	if !http2 && t.direct.takes(r) {
		return t.direct.carry(to, r)
	}
	return t.pairs.of(to.TLS).carry(http2, r)
}

// Retire implements Carrier.
func (t *transports) Retire(s *backendtls.Settings) {
	t.direct.idle.closeOf(s)
	t.pairs.retire(s)
}

// Forget implements Carrier.
func (t *transports) Forget() {
	t.direct.forget()
	t.pairs.forget()
}
