// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net"
	"sync"
)

// lines are the network connections of one client. An HTTP/2 connection whose streams were just cancelled is not idle yet when its transport
// is told to close the idle ones, and would stay for as long as idle ones may: a removed cluster must leave nothing behind.
type lines struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	pace *pace

	mu     sync.Mutex
	closed bool
	open   map[*line]struct{}
}

// line is a connection that is forgotten when it is closed.
type line struct {
	net.Conn
	of *lines
}

// Close implements net.Conn.
func (l *line) Close() error {
	l.of.mu.Lock()
	delete(l.of.open, l)
	l.of.mu.Unlock()
	return l.Conn.Close()
}

// DialContext is for an http.Transport.
func (l *lines) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	out := &line{newPacedConn(conn, l.pace), l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed { // a transport dials in the background, also for requests that ended meanwhile
		_ = conn.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	if l.open == nil {
		l.open = map[*line]struct{}{}
	}
	l.open[out] = struct{}{}
	return out, nil
}

// cut closes every connection that is there. Others may be made.
func (l *lines) cut() {
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close() // whoever uses it finds out
	}
}

// closeAll closes every connection, and those that are still being made as soon as they are.
func (l *lines) closeAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cut()
}
