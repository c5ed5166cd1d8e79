// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/nettest"
)

// pair makes two ends of a connection over loopback TCP.
func pair(t testing.TB, client, server Settings) (*Conn, *Conn) {
	t.Helper()
	a, b := tcpPair(t)
	return join(t, a, b, client, server)
}

// join makes a client over a and a server over b and closes both at the end of the test.
func join(t testing.TB, a, b net.Conn, client, server Settings) (*Conn, *Conn) {
	t.Helper()
	if x, ok := a.(*tls.Conn); ok {
		handshake(t, x, b.(*tls.Conn))
	}
	c, err := NewClient(a, client)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(b, server)
	t.Cleanup(func() {
		_ = c.Close()
		_ = s.Close()
	})
	return c, s
}

func tcpPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

var testCertificate = func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}()

// secure puts TLS on both ends of a connection, above what lets a Conn write without waiting.
func secure(a, b net.Conn) (net.Conn, net.Conn) {
	return bareTLS(NewTransport(a), NewTransport(b))
}

// bareTLS puts TLS on both ends of a connection.
func bareTLS(a, b net.Conn) (net.Conn, net.Conn) {
	conf := &tls.Config{
		Certificates: []tls.Certificate{testCertificate}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true,
	}
	return tls.Client(a, conf), tls.Server(b, conf)
}

// handshake does TLS's.
func handshake(t testing.TB, x, y net.Conn) {
	t.Helper()
	other := make(chan error, 1)
	go func() { other <- x.(*tls.Conn).HandshakeContext(t.Context()) }()
	if err := errors.Join(y.(*tls.Conn).HandshakeContext(t.Context()), <-other); err != nil {
		t.Fatal(err)
	}
}

// open opens a stream and accepts it.
func open(t testing.TB, c, s *Conn) (*Stream, *Stream) {
	t.Helper()
	type result struct {
		s   *Stream
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		r, err := s.Accept(t.Context())
		if err != nil {
			accepted <- result{nil, err}
			return
		}
		st, err := r.Accept(Header{{"x-test", "yes"}})
		accepted <- result{st, err}
	}()
	a, h, err := c.Open(t.Context(), "10.0.0.1:80", nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.Get("x-test") != "yes" {
		t.Errorf("header of the answer: %v", h)
	}
	r := <-accepted
	if r.err != nil {
		t.Fatal(r.err)
	}
	return a, r.s
}

func TestStreamIsANetConn(t *testing.T) {
	for name, swap := range map[string]bool{"client": false, "server": true} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				c, s := pair(t, Settings{}, Settings{})
				a, b := open(t, c, s)
				if swap {
					a, b = b, a
				}
				return a, b, func() { _ = c.Close(); _ = s.Close() }, nil
			})
		})
	}
}

// nested makes a stream inside TLS inside a stream inside TLS.
func nested(t testing.TB) (*Stream, *Stream) {
	t.Helper()
	a, b := secure(tcpPair(t))
	c, s := join(t, a, b, Settings{}, Settings{})
	oa, ob := open(t, c, s)
	ia, ib := secure(oa, ob)
	ic, is := join(t, ia, ib, Settings{}, Settings{})
	return open(t, ic, is)
}

func TestNestedStreamIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := nested(t)
		return a, b, func() { _ = a.Conn().Close(); _ = b.Conn().Close() }, nil
	})
}

func TestHalfClose(t *testing.T) {
	for name, serverFirst := range map[string]bool{"client first": false, "server first": true} {
		t.Run(name, func(t *testing.T) {
			c, s := pair(t, Settings{}, Settings{})
			first, second := open(t, c, s)
			if serverFirst {
				first, second = second, first
			}
			data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			for i, st := range []*Stream{first, second} {
				other := []*Stream{second, first}[i]
				go func() {
					_, _ = st.Write(data)
					_ = st.CloseWrite()
				}()
				got, err := io.ReadAll(other)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("direction %d: %d bytes, error %v", i, len(got), err)
				}
				if _, err := st.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
					t.Errorf("write after CloseWrite: %v", err)
				}
			}
			eventually(t, func() bool { return c.Streams() == 0 && s.Streams() == 0 })
			if c.Err() != nil || s.Err() != nil {
				t.Errorf("connection ended: %v, %v", c.Err(), s.Err())
			}
		})
	}
}

// eventually polls until ok, for 5 s at most.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("did not come true in 30 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestReset(t *testing.T) {
	for _, tc := range []struct {
		code http2.ErrCode
		read error
	}{
		{http2.ErrCodeNo, io.EOF},
		{http2.ErrCodeCancel, io.EOF},
		{http2.ErrCodeConnect, syscall.ECONNRESET},
		{http2.ErrCodeInternal, syscall.ECONNRESET},
	} {
		t.Run(tc.code.String(), func(t *testing.T) {
			c, s := pair(t, Settings{}, Settings{})
			a, b := open(t, c, s)
			if err := a.Reset(uint32(tc.code)); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, tc.read) {
				t.Errorf("read: %v, want %v", err, tc.read)
			}
			if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("write: %v", err)
			}
			if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read of the one who reset: %v", err)
			}
			eventually(t, func() bool { return c.Streams() == 0 && s.Streams() == 0 })
		})
	}
}

func TestReject(t *testing.T) {
	c, s := pair(t, Settings{}, Settings{})
	go func() {
		r, err := s.Accept(t.Context())
		if err == nil {
			_ = r.Reject(503, Header{{"x-reason", "no endpoint"}})
		}
	}()
	_, _, err := c.Open(t.Context(), "cart.shop.svc.cluster.local:80", nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != 503 || refused.Header.Get("x-reason") != "no endpoint" {
		t.Fatalf("error %v", err)
	}
	eventually(t, func() bool { return c.Streams() == 0 && s.Streams() == 0 })
}

func TestOpenCancelled(t *testing.T) {
	c, s := pair(t, Settings{}, Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, _, err := c.Open(ctx, "10.0.0.1:80", nil)
		failed <- err
	}()
	r, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	<-r.Context().Done()
	if _, err := r.Accept(nil); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("accept after the reset: %v", err)
	}
	eventually(t, func() bool { return s.Streams() == 0 })
}

func TestDrain(t *testing.T) {
	for name, byServer := range map[string]bool{"client": false, "server": true} {
		t.Run(name, func(t *testing.T) {
			c, s := pair(t, Settings{}, Settings{})
			a, b := open(t, c, s)
			if byServer {
				s.Drain()
				eventually(t, func() bool { return !c.Usable() })
			} else {
				c.Drain()
			}
			if _, _, err := c.Open(t.Context(), "10.0.0.1:80", nil); !errors.Is(err, ErrDraining) {
				t.Errorf("open while draining: %v", err)
			}
			data := bytes.Repeat([]byte("x"), 10<<20)
			go func() {
				_, _ = a.Write(data)
				_ = a.CloseWrite()
			}()
			got, err := io.ReadAll(b)
			if err != nil || len(got) != len(data) {
				t.Fatalf("%d bytes, error %v", len(got), err)
			}
			select {
			case <-c.Done():
				t.Fatal("ended before its last stream")
			default:
			}
			_ = b.Close()
			<-c.Done()
			<-s.Done()
			if _, err := s.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept: %v", err)
			}
		})
	}
}

// TestLostConnectionIsNoEnd has the peer close the transport in order, in the middle of a stream.
func TestLostConnectionIsNoEnd(t *testing.T) {
	c, s := pair(t, Settings{}, Settings{})
	_, b := open(t, c, s)
	_ = c.NetConn().Close()
	if _, err := b.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
}
