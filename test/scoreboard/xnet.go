// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"golang.org/x/net/http2"
)

// xnet is the control of the rows about many streams: the client and server of golang.org/x/net/http2 doing CONNECT over the same TLS, one connection,
// with their defaults. From Go 1.27 both wrap net/http's own HTTP/2 (transport_wrap.go, server_wrap.go), so that is what is measured; the tag http2legacy
// brings back x/net's former engine. Its types are deprecated in favour of net/http's, but they are what a Go program takes for CONNECT.
type xnet struct {
	client interface {
		http.RoundTripper
		io.Closer
	}
}

// xnetPair makes the two ends over TLS of their own and serves each CONNECT with serve, which has the stream until it returns.
func (l *loopback) xnetPair(ctx context.Context, serve func(io.ReadWriter)) (*xnet, error) {
	a, b, err := l.bareTLS(ctx)
	if err != nil {
		return nil, err
	}
	x := new(xnet)
	l.serve(control, func() {
		handler := func(w http.ResponseWriter, r *http.Request) {
			s := xnetServerStream{r.Body, w, w.(http.Flusher)}
			s.flush.Flush() // 200
			serve(s)
		}
		//nolint:staticcheck // deprecated, see xnet
		new(http2.Server).ServeConn(b, &http2.ServeConnOpts{Context: ctx, Handler: http.HandlerFunc(handler)})
	})
	err = as(control, func() error {
		x.client, err = new(http2.Transport).NewClientConn(a) //nolint:staticcheck // deprecated, see xnet
		return err
	})
	if err != nil {
		return nil, err
	}
	l.keep(x.client)
	return x, nil
}

// xnetServerStream is the server's end of a CONNECT. It flushes after each write, or the client would wait for the answer.
type xnetServerStream struct {
	io.Reader
	w     io.Writer
	flush http.Flusher
}

func (s xnetServerStream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.flush.Flush()
	return n, err
}

// xnetStream is the client's end of a CONNECT.
type xnetStream struct {
	*io.PipeWriter               // its Close is the end of our direction
	down           io.ReadCloser // the peer's direction
}

func (s xnetStream) Read(p []byte) (int, error) { return s.down.Read(p) }

func (s xnetStream) CloseWrite() error { return s.PipeWriter.Close() }

func (s xnetStream) Close() error { return errors.Join(s.PipeWriter.Close(), s.down.Close()) }

// open asks for a tunnel and waits for the 200.
func (x *xnet) open(ctx context.Context) (xnetStream, error) {
	read, write := io.Pipe()
	r := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: authority}, Host: authority, Header: http.Header{},
		Body: read, ContentLength: -1,
	}).WithContext(ctx)
	answer, err := x.client.RoundTrip(r) //nolint:bodyclose // the stream's Close does
	if err != nil {
		return xnetStream{}, err
	}
	s := xnetStream{PipeWriter: write, down: answer.Body}
	if answer.StatusCode != http.StatusOK {
		return xnetStream{}, errors.Join(fmt.Errorf("CONNECT: %s", answer.Status), s.Close())
	}
	return s, nil
}
