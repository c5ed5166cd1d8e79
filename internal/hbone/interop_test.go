// SPDX-License-Identifier: Apache-2.0

//nolint:staticcheck // the deprecated client and server of x/net are what we want to meet
package hbone

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"golang.org/x/net/http2"
)

// TestStockClient has the HTTP/2 client of x/net open tunnels through our server.
func TestStockClient(t *testing.T) {
	a, b := secure(tcpPair(t))
	s := NewServer(b, Settings{})
	defer s.Close()
	go echo(t, s)
	transport := &http2.Transport{DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) {
		err := a.(*tls.Conn).HandshakeContext(t.Context())
		return a, err
	}}
	defer transport.CloseIdleConnections()
	for name, size := range map[string]int{"small": 5, "large": 9 << 20} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Repeat([]byte("y"), size)
			target := &url.URL{Scheme: "https", Host: "cart.shop.svc.cluster.local:80"}
			res, err := transport.RoundTrip((&http.Request{
				Method: http.MethodConnect, URL: target, Host: target.Host, Body: io.NopCloser(bytes.NewReader(data)),
				Header: http.Header{"Baggage": {"k8s.namespace.name=shop"}}, ContentLength: -1,
			}).WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK || !bytes.Equal(got, data) || res.Header.Get("X-Echo") != "k8s.namespace.name=shop" {
				t.Errorf("status %d, header %v, %d bytes, error %v", res.StatusCode, res.Header, len(got), err)
			}
		})
	}
	t.Run("not CONNECT", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://cart.shop.svc.cluster.local:80/", bytes.NewReader(make([]byte, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", res.StatusCode)
		}
	})
	eventually(t, func() bool { return s.Streams() == 0 })
	if err := s.Err(); err != nil {
		t.Errorf("connection ended: %v", err)
	}
}

// echo accepts every request and sends back what comes.
func echo(t testing.TB, s *Conn) {
	for {
		r, err := s.Accept(t.Context())
		if err != nil {
			return
		}
		st, err := r.Accept(Header{{"x-echo", r.Header.Get("baggage")}})
		if err != nil {
			continue
		}
		go func() {
			_, _ = io.Copy(st, st)
			_ = st.CloseWrite()
			_ = st.Close()
		}()
	}
}

// TestStockServer has our client open tunnels through the HTTP/2 server of x/net. That server cannot end its direction before its handler
// returns, so the client ends first.
func TestStockServer(t *testing.T) {
	a, b := secure(tcpPair(t))
	handshake(t, a, b)
	go (&http2.Server{MaxConcurrentStreams: 10}).ServeConn(b, &http2.ServeConnOpts{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect || r.Host == "10.0.0.2:80" {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("X-Target", r.Host)
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			buf := make([]byte, 32<<10)
			for {
				n, err := r.Body.Read(buf)
				_, _ = w.Write(buf[:n])
				_ = http.NewResponseController(w).Flush()
				if err != nil {
					return
				}
			}
		}),
	})
	c, err := NewClient(a, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, size := range map[string]int{"small": 5, "large": 9 << 20} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Repeat([]byte("z"), size)
			s, h, err := c.Open(t.Context(), "10.0.0.1:80", nil)
			if err != nil {
				t.Fatal(err)
			}
			if h.Get("x-target") != "10.0.0.1:80" {
				t.Errorf("header %v", h)
			}
			go func() {
				_, _ = s.Write(data)
				_ = s.CloseWrite()
			}()
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, error %v", len(got), err)
			}
			_ = s.Close()
		})
	}
	t.Run("refused", func(t *testing.T) {
		_, _, err := c.Open(t.Context(), "10.0.0.2:80", nil)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Status != 503 {
			t.Errorf("error %v", err)
		}
	})
	eventually(t, func() bool { return c.Streams() == 0 })
}
