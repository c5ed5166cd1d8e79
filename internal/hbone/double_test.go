// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// doubleTunnel is the whole path of a connection between two networks, in one process:
// client ─TCP─ source ═ inner in outer ═ gateway ─TCP─ destination ─TCP─ server.
type doubleTunnel struct {
	t       *testing.T
	outer   *Conn // the source's connection to the gateway
	toInner net.Listener
	running sync.WaitGroup
}

func newDoubleTunnel(t *testing.T) *doubleTunnel {
	t.Helper()
	d := &doubleTunnel{t: t}
	var err error
	if d.toInner, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	a, b := secure(tcpPair(t))
	if d.outer, err = NewClient(a, Settings{}); err != nil {
		t.Fatal(err)
	}
	gateway := NewServer(b, Settings{})
	d.running.Go(func() { d.serveGateway(gateway) })
	t.Cleanup(func() {
		_ = d.outer.Close()
		_ = gateway.Close()
		_ = d.toInner.Close()
		d.running.Wait()
	})
	return d
}

// serveGateway dials the destination for each outer stream and forwards its bytes unread.
func (d *doubleTunnel) serveGateway(c *Conn) {
	for {
		r, err := c.Accept(d.t.Context())
		if err != nil {
			return
		}
		nc, err := net.Dial("tcp", d.toInner.Addr().String())
		if err != nil {
			_ = r.Reject(503, nil)
			continue
		}
		s, err := r.Accept(nil)
		if err != nil {
			_ = nc.Close()
			continue
		}
		d.running.Go(func() { _ = relay.Copy(context.Background(), s, nc.(*net.TCPConn), new(relay.Stats)) })
	}
}

// connect gives the two applications' ends of one connection.
func (d *doubleTunnel) connect() (client, server *net.TCPConn) {
	d.t.Helper()
	outer, _, err := d.outer.Open(d.t.Context(), "cart.shop.svc.cluster.local:80", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	atPod, err := d.toInner.Accept()
	if err != nil {
		d.t.Fatal(err)
	}
	x, y := secure(outer, atPod)
	inner, err := NewClient(x, Settings{})
	if err != nil {
		d.t.Fatal(err)
	}
	last := NewServer(y, Settings{})
	near, far := open(d.t, inner, last)

	a1, a2 := tcpPair(d.t)
	b1, b2 := tcpPair(d.t)
	client, server = a1.(*net.TCPConn), b2.(*net.TCPConn)
	d.running.Go(func() {
		_ = relay.Copy(context.Background(), a2.(*net.TCPConn), near, new(relay.Stats))
		_ = inner.Shutdown(d.t.Context())
	})
	d.running.Go(func() {
		_ = relay.Copy(context.Background(), far, b1.(*net.TCPConn), new(relay.Stats))
		<-last.Done() // the client goes first
	})
	d.t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

func TestDoubleTunnelHalfClose(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("streams", func(t *testing.T) {
		d := newDoubleTunnel(t)
		for name, serverFirst := range map[string]bool{"client first": false, "server first": true} {
			client, server := d.connect()
			first, second := client, server
			if serverFirst {
				first, second = server, client
			}
			for i, from := range []*net.TCPConn{first, second} {
				to := []*net.TCPConn{second, first}[i]
				data := bytes.Repeat([]byte{'a' + byte(i)}, 3<<20+i)
				go func() {
					_, _ = from.Write(data)
					_ = from.CloseWrite()
				}()
				got, err := io.ReadAll(to)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s, direction %d: %d of %d bytes, error %v", name, i, len(got), len(data), err)
				}
			}
		}
		eventually(t, func() bool { return d.outer.Streams() == 0 })
		if err := d.outer.Err(); err != nil {
			t.Errorf("the shared connection ended: %v", err)
		}
	})
	noneLeft(t, before)
}

func TestDoubleTunnelReset(t *testing.T) {
	for name, byServer := range map[string]bool{"by the client": false, "by the server": true} {
		t.Run(name, func(t *testing.T) {
			d := newDoubleTunnel(t)
			who, other := d.connect()
			if byServer {
				who, other = other, who
			}
			if _, err := who.Write([]byte("half a sent")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(other, make([]byte, 11)); err != nil {
				t.Fatal(err)
			}
			_ = who.SetLinger(0)
			_ = who.Close()
			if _, err := other.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other side read %v", err)
			}
			eventually(t, func() bool { return d.outer.Streams() == 0 })
			if err := d.outer.Err(); err != nil {
				t.Errorf("the shared connection ended: %v", err)
			}
		})
	}
}

// TestDoubleTunnelCut cuts the shared connection: nobody may take what came for the whole.
func TestDoubleTunnelCut(t *testing.T) {
	d := newDoubleTunnel(t)
	client, server := d.connect()
	if _, err := client.Write([]byte("half a sent")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	_ = d.outer.NetConn().Close()
	for name, c := range map[string]net.Conn{"client": client, "server": server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the %s read %v", name, err)
		}
	}
}
