// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// from is a connection of an address whose other end says nothing until it is closed.
type from struct {
	net.Conn
	addr   net.Addr
	read   chan struct{} // closed by the first Read
	closed chan struct{}
	once   sync.Once
}

func silentFrom(addr string) *from {
	return &from{addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1)), read: make(chan struct{}), closed: make(chan struct{})}
}

func (f *from) RemoteAddr() net.Addr { return f.addr }
func (f *from) Close() error         { f.once.Do(func() { close(f.closed) }); return nil }
func (f *from) Read([]byte) (int, error) {
	close(f.read)
	<-f.closed
	return 0, net.ErrClosed
}

// guest enters a room and waits there. gone tells how that ended.
func guest(t *testing.T, r *Room, addr string) (f *from, gone chan error) {
	t.Helper()
	f, gone = silentFrom(addr), make(chan error, 1)
	c, err := r.Enter(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := c.Read(make([]byte, 1))
		c.Leave()
		gone <- err
	}()
	<-f.read
	return f, gone
}

func TestRoomMakesRoom(t *testing.T) {
	r := NewRoom(3, 2)
	_, a1 := guest(t, r, "192.0.2.1")
	_, a2 := guest(t, r, "192.0.2.1")
	_, a3 := guest(t, r, "192.0.2.1") // the third of an address ends its first
	if err := <-a1; !errors.Is(err, ErrCrowded) {
		t.Errorf("the first of three: %v", err)
	}
	_, b1 := guest(t, r, "192.0.2.2")
	_, b2 := guest(t, r, "192.0.2.2") // the fourth in all ends who was silent for longest, whoever it is
	if err := <-a2; !errors.Is(err, ErrCrowded) {
		t.Errorf("the oldest of four: %v", err)
	}
	select {
	case err := <-a3:
		t.Errorf("ended: %v", err)
	case err := <-b1:
		t.Errorf("ended: %v", err)
	case err := <-b2:
		t.Errorf("ended: %v", err)
	default:
	}
	// Who is not waited for gives way to nobody.
	r, busy := NewRoom(3, 2), silentFrom("192.0.2.3")
	for range 2 {
		if _, err := r.Enter(busy, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Enter(busy, nil); !errors.Is(err, ErrCrowded) {
		t.Errorf("a third one, with two that are busy: %v", err)
	}
}

func TestRoomForgets(t *testing.T) {
	r := NewRoom(2, 2)
	for range 3 {
		f, gone := guest(t, r, "192.0.2.1")
		f.Close()
		if err := <-gone; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
	if len(r.hosts) != 0 || r.Silent() != 0 || r.crowds[unheard].all != 0 {
		t.Errorf("left: %d addresses, %d silent", len(r.hosts), r.Silent())
	}
}

// Who stops in the middle of a handshake holds no turn, and whoever speaks gets one.
func TestTurnsAreForWork(t *testing.T) {
	config := serverConfig(t)
	r, turns := NewRoom(100, 100), NewTurns(1)
	serve := func(c *Conn) error {
		defer c.Leave()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := c.Hello(ctx); err != nil {
			return err
		}
		if err := c.Turn(ctx); err != nil {
			return err
		}
		return tls.Server(c, config).HandshakeContext(ctx)
	}
	hello, stuck := helloOf(t), make(chan error, 20)
	var far []net.Conn
	for i := range cap(stuck) {
		nc, c := pair(t, r, turns)
		far = append(far, nc)
		go func() { stuck <- serve(c) }()
		if _, err := nc.Write(hello[:min(len(hello), 1+i*len(hello))]); err != nil { // one of them a byte, the others all
			t.Fatal(err)
		}
	}
	for range 5 {
		nc, c := pair(t, r, turns)
		served := make(chan error, 1)
		go func() { served <- serve(c) }()
		if err := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	}
	for _, nc := range far {
		nc.Close()
	}
	for range cap(stuck) {
		if err := <-stuck; err == nil {
			t.Error("a handshake without a client")
		}
	}
	if len(turns) != 0 || r.Silent() != 0 || len(r.hosts) != 0 {
		t.Errorf("left: %d turns, %d silent, %d addresses", len(turns), r.Silent(), len(r.hosts))
	}
}

func serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
