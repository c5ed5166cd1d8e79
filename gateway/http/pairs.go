// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
)

// answerWindow is how much of an answer in HTTP/2 an endpoint may send ahead of its client, in bytes: that is held in memory, by all 250 requests of a client's connection 62 MiB. 256 KiB let one answer come at 2 Gbit/s where
// a round trip takes 1 ms, as between zones, and at more nearby. All answers of a connection together may have the library's 1 GiB, so that it takes 4096 clients that read nothing to have others wait.
const answerWindow = 256 << 10

// pair are the library's Transports for the two versions of HTTP. Connections of each are kept by the host of the requests' URLs.
type pair struct{ http1, http2 *http.Transport }

func (p *pair) carry(http2 bool, r *http.Request) (*http.Response, error) {
	if !plainLine(r.Method, r.URL.RequestURI()) {
		return nil, errLine
	}
	ctx := r.Context()
	var body *outgoing
	if t := tripOf(ctx); t != nil && t.left != nil {
		body = &outgoing{ReadCloser: r.Body}
		defer body.settle()
		if http2 { // cancelled, the Transport still says whether the endpoint has processed the request, if it had found that
			ctx, body.giveUp = context.WithCancel(ctx)
		} else {
			body.giveUp = t.giveUp()
		}
	}
	if !http2 {
		heads := &tape{}
		defer heads.end()
		response, err := p.http1.RoundTrip(withEarly(ctx, r, body, heads))
		if err == nil {
			heads.next(response.Header)
		}
		return response, err
	}
	r = withEarly(ctx, r, body, nil)
	var response *http.Response
	var err error
	if len(r.Trailer) > 0 {
		response, err = p.alone(r)
	} else {
		response, err = p.http2.RoundTrip(r)
	}
	if err == nil && body != nil && response.Body != http.NoBody {
		response.Body = body.answerOf(response.Body)
	}
	return response, err
}

// alone carries a request in HTTP/2 by a connection that nobody else ever has. One with trailers needs it: the backend may have answered, and forgotten the request, when they come, without that who sends them could
// know. net/http takes them for the beginning of a request that is over then, and ends the connection. Such requests are few: those of gRPC have none.
func (p *pair) alone(r *http.Request) (*http.Response, error) {
	conn, err := p.http2.NewClientConn(r.Context(), r.URL.Scheme, r.URL.Host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	response, err := conn.RoundTrip(r)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	response.Body = endingBody(response.Body, func() { _ = conn.Close() })
	return response, nil
}

func (p *pair) forget() {
	p.http1.CloseIdleConnections()
	p.http2.CloseIdleConnections()
}

// pairs has a pair for what is spoken in the clear, and one for each of the TLS settings that are in force, so that no connection is ever used by
// others than those that it was made with.
type pairs struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	handshake time.Duration // at most, for TLS
	acks      time.Duration // see Limits.AckTime; 0: connections are not of TCP

	plain  *pair
	once   sync.Once
	mu     sync.Mutex // hold for secure
	secure map[*backendtls.Settings]*pair
}

// of gives the pair for settings; nil: for the clear.
func (p *pairs) of(s *backendtls.Settings) *pair {
	p.once.Do(func() { p.plain = p.make(nil) })
	if s == nil {
		return p.plain
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if has := p.secure[s]; has != nil {
		return has
	}
	made := p.make(s)
	if s.Retired() { // of a request that began before: nobody would close what it left
		made.http1.DisableKeepAlives, made.http2.DisableKeepAlives = true, true
		return made
	}
	if p.secure == nil {
		p.secure = map[*backendtls.Settings]*pair{}
	}
	p.secure[s] = made
	return made
}

func (p *pairs) make(s *backendtls.Settings) *pair {
	one := func(protocol string, set func(*http.Protocols)) *http.Transport {
		protocols := &http.Protocols{}
		set(protocols)
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := p.dial(ctx, network, address)
			if err == nil && protocol == backendtls.HTTP2 {
				if p.acks > 0 { // in HTTP/1.1 an endpoint may take nothing of an upload for any time, which would count
					boundAcks(conn, p.acks)
				}
				conn = newGathering(conn)
			}
			if err == nil && s != nil {
				conn, err = s.Client(ctx, conn, protocol, p.handshake)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
			}
			if protocol == backendtls.HTTP1 {
				conn = &endingConn{Conn: conn}
			}
			return conn, nil
		}
		return &http.Transport{
			Protocols: protocols, DisableCompression: true, MaxIdleConnsPerHost: idlePerEndpoint, IdleConnTimeout: idleAtEndpoint,
			ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: answerHeaderBytes, DialContext: dial, DialTLSContext: dial,
			HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: answerWindow},
		}
	}
	return &pair{
		http1: one(backendtls.HTTP1, func(p *http.Protocols) { p.SetHTTP1(true) }),
		http2: one(backendtls.HTTP2, func(p *http.Protocols) {
			p.SetHTTP2(s != nil)
			p.SetUnencryptedHTTP2(s == nil)
		}),
	}
}

// retire closes what is kept by settings that are in force no more.
func (p *pairs) retire(s *backendtls.Settings) {
	p.mu.Lock()
	gone := p.secure[s]
	delete(p.secure, s)
	p.mu.Unlock()
	if gone != nil {
		gone.forget()
	}
}

// forget closes all that is kept.
func (p *pairs) forget() {
	p.of(nil).forget()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range p.secure {
		of.forget()
	}
}
