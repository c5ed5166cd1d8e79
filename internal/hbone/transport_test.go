// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// TestDirectStreamIsANetConn is TestStreamIsANetConn on what can be written to without waiting, with and without TLS.
func TestDirectStreamIsANetConn(t *testing.T) {
	for name, wrap := range map[string]func(a, b net.Conn) (net.Conn, net.Conn){
		"tcp": func(a, b net.Conn) (net.Conn, net.Conn) { return NewTransport(a), NewTransport(b) },
		"tls": secure,
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				x, y := wrap(tcpPair(t))
				c, s := join(t, x, y, Settings{}, Settings{})
				if c.under == nil || s.under == nil {
					t.Fatal("the transport was not recognised")
				}
				a, b := open(t, c, s)
				return a, b, func() { _ = c.Close(); _ = s.Close() }, nil
			})
		})
	}
}

// TestStuckNetwork has a peer who reads nothing of the transport, although its windows allow much: a Write must still keep its deadline and notice that its
// stream is closed, and the connection must hold no more than it says.
func TestStuckNetwork(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"direct": direct,
		"copied": copied,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := tcpPair(t)
			stuck := &stalling{Conn: b}
			c, s := join(t, wrap(a), stuck, Settings{FlushTimeout: 10 * time.Millisecond}, Settings{StreamWindow: 1 << 30, ConnWindow: 1 << 30})
			x, _ := open(t, c, s)
			y, _ := open(t, c, s)
			stuck.mu.Lock() // from here on nothing is read
			defer stuck.mu.Unlock()

			var all sync.WaitGroup
			defer all.Wait()
			wrote := make(chan error, 1)
			all.Go(func() {
				_, err := y.Write(make([]byte, 64<<20))
				wrote <- err
			})
			_ = x.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			if n, err := x.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes, error %v", n, err)
			}
			if held := int(c.under.heldBytes()); held > 256<<10 {
				t.Errorf("%d bytes wait for the network", held)
			}
			_ = y.Close()
			if err := <-wrote; !errors.Is(err, net.ErrClosed) {
				t.Errorf("write on a closed stream: %v", err)
			}
			_ = a.Close()
			_ = b.Close()
		})
	}
}

// stalling is a connection that nobody reads while mu is held.
type stalling struct {
	net.Conn
	mu sync.Mutex
}

func (s *stalling) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Conn.Read(p)
}

func (t *Transport) heldBytes() int64 {
	if t == nil {
		return 0
	}
	return t.kept.Load()
}

// TestTransportBeforeAndAfter uses a Transport on its own: it is an ordinary connection until a Conn takes it over, and gives that up to nobody.
func TestTransportBeforeAndAfter(t *testing.T) {
	a, b := tcpPair(t)
	defer b.Close()
	x := NewTransport(a)
	if _, err := x.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(b, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, error %v", got, err)
	}
	if transportOf(tls.Client(x, &tls.Config{InsecureSkipVerify: true})) != nil {
		t.Error("taken over before the handshake")
	}
	if transportOf(x) != x {
		t.Fatal("not taken over")
	}
	x.limit = 32 << 20 // as the Conn would say
	x.ours.Store(true)
	// Far more than the socket takes: nobody reads yet.
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if n, err := x.Write(data); n != len(data) || err != nil {
		t.Fatalf("%d bytes, error %v", n, err)
	}
	if !x.held() {
		t.Error("the socket took 16 MiB")
	}
	read := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(b)
		read <- all
	}()
	if err := x.flush(); err != nil {
		t.Fatal(err)
	}
	if x.held() || x.CloseWrite() != nil {
		t.Error("something is left")
	}
	if all := <-read; !bytes.Equal(all, data) {
		t.Errorf("%d bytes, or wrong ones", len(all))
	}
	_ = a.Close()
	for range 2 {
		if _, err := x.Write([]byte("more")); err == nil {
			t.Error("write after close")
		}
	}
}

// TestQuietConnectionHasOneGoroutine counts what the library keeps for connections and streams that do nothing.
func TestQuietConnectionHasOneGoroutine(t *testing.T) {
	x, y := secure(tcpPair(t))
	before := runtime.NumGoroutine()
	c, s := join(t, x, y, Settings{}, Settings{})
	for range 50 {
		a, b := open(t, c, s)
		if _, err := a.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 })
}
