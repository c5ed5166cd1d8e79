// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// counting are credentials of a server whose connections count what they wrote: gRPC takes a message of any size at once, and does not say what became of it.
type counting struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (c counting) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.TransportCredentials.ServerHandshake(&countedConn{Conn: raw, from: &countedAddr{Addr: raw.RemoteAddr()}})
}

type countedConn struct {
	net.Conn
	from *countedAddr
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.from.written.Add(int64(n))
	return n, err
}

// RemoteAddr is how a call finds the count of its connection.
func (c *countedConn) RemoteAddr() net.Addr { return c.from }

// countedAddr is the peer's address, with the bytes that its connection took.
type countedAddr struct {
	net.Addr
	written atomic.Int64
}

// connectionOf gives the count of a call's connection; nil if nobody counts.
func connectionOf(ctx context.Context) *countedAddr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	counted, _ := p.Addr.(*countedAddr)
	return counted
}

// pace is how fast a large response goes out, as far as its connection shows, which others' responses may share.
type pace struct {
	began       time.Time
	size        int64 // bytes of the response
	first, last int64 // what the connection had written when it began, and when it was last looked at
}

func (p *pace) begin(written, size int64) {
	*p = pace{began: time.Now(), size: size, first: written, last: written}
}

// keeps says whether all of it is written, or since the last look as much as has all of it written within the given time.
func (p *pace) keeps(written int64, look, within time.Duration) bool {
	since := written - p.last
	p.last = written
	return written-p.first >= p.size || float64(since) > float64(p.size)*float64(look)/float64(within)
}
