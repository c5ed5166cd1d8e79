// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"sync"
)

// Arrivals are a listener whose connections come from elsewhere than a socket.
type Arrivals struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// NewArrivals makes a listener that takes connections until it is closed.
func NewArrivals() *Arrivals {
	return &Arrivals{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Enter hands a connection in, and says whether it was taken: it is not once the listener is closed. The error is why ctx ended first.
func (a *Arrivals) Enter(ctx context.Context, conn net.Conn) (bool, error) {
	select {
	case a.conns <- conn:
		return true, nil
	case <-a.closed:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// Accept waits for the next one.
func (a *Arrivals) Accept() (net.Conn, error) {
	select {
	case conn := <-a.conns:
		return conn, nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

// Close lets nothing more in.
func (a *Arrivals) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

// Addr is nowhere.
func (a *Arrivals) Addr() net.Addr { return &net.TCPAddr{} }
