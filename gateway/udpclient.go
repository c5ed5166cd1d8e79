// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Why a client is forgotten that is not silent.
var (
	errMoved   = errors.New("its endpoint is gone")
	errCrowded = errors.New("others needed its place")
)

// udpClient is who sends datagrams to a port, and where they go.
type udpClient struct {
	port     *udpPort
	from     netip.AddrPort
	st       *stream
	target   target
	endpoint netip.AddrPort
	conn     *net.UDPConn // to the endpoint
	unnote   func()       // takes its near end out of the server's sockets
	record   *record

	place    *list.Element // in the crowd; hold its mu
	heard    time.Time     // when it last sent, since it is proven; hold the crowd's mu
	answered atomic.Bool   // the endpoint has sent something
	proven   atomic.Bool   // the client has sent something after that
	last     atomic.Int64  // when anything passed, in Unix nanoseconds
}

// begin decides where a new client's datagrams go.
func (c *udpClient) begin() *Refusal {
	s := c.port.server
	if s.sockets.has(c.from) {
		return unavailable(ReasonLoop, nil)
	}
	b, endpoint, refusal := c.port.choose()
	if refusal != nil {
		return refusal
	}
	t := target{service: s.live.Load().Service(b.Service), named: b.Service, port: b.Port, plain: true, entry: uint16(c.port.port.Load())}
	if t, refusal = s.allow(c.st, t); refusal != nil {
		return refusal
	}
	if refusal := s.takeStream(c.st, t.named); refusal != nil {
		return refusal
	}
	conn, err := s.o.DialUDP(endpoint)
	if err != nil {
		s.giveStream(t.named)
		return unavailable(ReasonConnect, fmt.Errorf("endpoint %s: %w", endpoint, err))
	}
	c.target, c.endpoint, c.conn = t, endpoint, conn
	c.unnote = s.sockets.add(endOf(conn.LocalAddr()))
	c.last.Store(time.Now().UnixNano())
	c.record = s.begin(c.st.peer, net.UDPAddrFromAddrPort(c.from), fmt.Sprintf("%s:%d", t.named.Hostname, t.port), nil)
	c.record.tunnel, c.record.destination, c.record.endpoint = "udp", endpoint.String(), endpoint.Addr().String()
	return nil
}

// send passes a datagram on. One that the socket does not take is lost, as datagrams may be.
func (c *udpClient) send(datagram []byte) {
	c.record.stats.Sent.Add(int64(len(datagram))) // before, as the answer may be counted, and all be over, by the time that Write returns
	_, err := c.conn.Write(datagram)
	if err != nil {
		c.record.stats.Sent.Add(-int64(len(datagram)))
	}
	c.last.Store(time.Now().UnixNano())
	if errors.Is(err, syscall.ECONNREFUSED) { // what the endpoint's machine said of one before
		c.port.refusedBy(c.endpoint)
		c.st.end(unavailable(ReasonConnect, err))
	}
}

// run passes answers back until the client is forgotten.
func (c *udpClient) run() {
	p := c.port
	s := p.server
	c.record.opened()
	defer s.streams.remove(c.st)
	defer s.giveStream(c.target.named)
	defer p.forget(c)
	defer c.conn.Close()
	defer c.unnote()
	stop := context.AfterFunc(c.st.ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := c.answers()
	if c.st.ctx.Err() != nil {
		err = context.Cause(c.st.ctx)
	}
	if errors.Is(err, errMoved) || errors.Is(err, errCrowded) {
		err = &Refusal{503, ReasonIdle, err}
	}
	c.record.closed(err, p.ctx.Err() != nil)
	c.st.end(nil)
}

// answers copies what the endpoint sends; nil: all was silent.
func (c *udpClient) answers() error {
	for c.st.ctx.Err() == nil {
		idle := c.port.server.o.Limits.DatagramIdle
		if !c.proven.Load() {
			idle /= 4
		}
		until := time.Unix(0, c.last.Load()).Add(idle)
		if !time.Now().Before(until) {
			return nil
		}
		if err := c.conn.SetReadDeadline(until); err != nil {
			return err
		}
		if c.st.ctx.Err() != nil { // its deadline may have come before ours
			return context.Cause(c.st.ctx)
		}
		err := c.answer()
		switch {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded) && c.st.ctx.Err() == nil:
		case errors.Is(err, syscall.ECONNREFUSED):
			c.port.refusedBy(c.endpoint)
			return unavailable(ReasonConnect, err)
		default:
			return err
		}
	}
	return nil
}

// answer waits for a datagram of the endpoint and passes it on.
func (c *udpClient) answer() error {
	buffer, n, err := readDatagram(c.conn)
	if err != nil {
		return err
	}
	defer datagrams.Put(buffer)
	c.answered.Store(true)
	c.last.Store(time.Now().UnixNano())
	sent, err := c.port.socket.WriteToUDPAddrPort((*buffer)[:n], c.from)
	c.record.stats.Received.Add(int64(sent))
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // what the client's network says of a datagram is nothing to end for
}

// datagrams holds buffers of maxDatagram bytes.
var datagrams = sync.Pool{New: func() any { b := make([]byte, maxDatagram); return &b }}

// readDatagram waits for a datagram and reads it into a buffer of datagrams, which is the caller's to give back. While it waits it holds none: most
// clients are silent most of the time.
func readDatagram(conn *net.UDPConn) (buffer *[]byte, n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		buffer = datagrams.Get().(*[]byte)
		for {
			n, failed = unix.Read(int(fd), *buffer)
			if !errors.Is(failed, unix.EINTR) {
				break
			}
		}
		if failed == nil {
			return true
		}
		datagrams.Put(buffer)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err == nil {
		err = failed
	}
	return buffer, n, err
}
