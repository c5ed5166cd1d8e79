// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
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

// transports is the Carrier of net/http: connections are kept per address, apart by protocol. Plain requests in HTTP/1.1 have a way of their own.
type transports struct {
	direct       direct
	http1, http2 *http.Transport
}

// NewTransports makes a Carrier that connects with TCP, or with dial if it is not nil.
func NewTransports(l Limits, dial func(ctx context.Context, network, address string) (net.Conn, error)) Carrier {
	l = l.withDefaults()
	if dial == nil {
		dial = (&net.Dialer{Timeout: l.ConnectTime, KeepAlive: 30 * time.Second}).DialContext
	}
	make1 := func(set func(*http.Protocols)) *http.Transport {
		protocols := &http.Protocols{}
		set(protocols)
		return &http.Transport{
			Protocols: protocols, DisableCompression: true, MaxIdleConnsPerHost: idlePerEndpoint, IdleConnTimeout: idleAtEndpoint,
			ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: answerHeaderBytes,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				if err != nil {
					return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
				}
				return conn, nil
			},
		}
	}
	return &transports{
		direct: direct{dial: dial},
		http1:  make1(func(p *http.Protocols) { p.SetHTTP1(true) }),
		http2:  make1(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }),
	}
}

// Carry implements Carrier.
func (t *transports) Carry(to Endpoint, r *http.Request) (*http.Response, error) {
	if to.HTTP2 && r.Header.Get("Upgrade") == "" { // HTTP/2 has no upgrades
		return t.http2.RoundTrip(r)
	}
	if t.direct.takes(r) {
		return t.direct.carry(to, r)
	}
	return t.http1.RoundTrip(r)
}

// Forget implements Carrier.
func (t *transports) Forget() {
	t.direct.forget()
	t.http1.CloseIdleConnections()
	t.http2.CloseIdleConnections()
}
