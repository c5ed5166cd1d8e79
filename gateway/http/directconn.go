// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"syscall"
	"time"
)

// directBuffer is how much of requests and answers is gathered before a system call, in bytes: the headers and the body of a small one.
const directBuffer = 4 << 10

// directConn is an HTTP/1.1 connection to an endpoint. It belongs to the request that has it, or to the pool.
type directConn struct {
	nc    net.Conn
	at    place
	idle  *idleConns
	r     *bufio.Reader // of the connection itself, through Read
	w     *bufio.Writer
	left  int64 // bytes that may still be read; bounds an answer's headers, and those of 1xx before it
	since time.Time
	used  bool // for a request before this one

	taping bool   // what is read is kept
	tape   []byte // that

	sending *sending // the body of the request that has it; nil: that has none

	expire func()    // ends who reads and writes
	secure *tls.Conn // nc, if it is one

	raw   syscall.RawConn // nil: whether the endpoint has closed it cannot be asked
	peek  func(fd uintptr) bool
	quiet bool // what peek found
}

func newDirectConn(nc net.Conn, at place, idle *idleConns) *directConn {
	c := &directConn{nc: nc, at: at, idle: idle, expire: func() { _ = nc.SetDeadline(past) }}
	c.r, c.w = bufio.NewReaderSize(c, directBuffer), bufio.NewWriterSize(nc, directBuffer)
	under := nc
	if secure, ok := nc.(*tls.Conn); ok {
		c.secure, under = secure, secure.NetConn()
	}
	if s, ok := under.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
		var one [1]byte
		c.peek = func(fd uintptr) bool {
			_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			c.quiet = errors.Is(err, syscall.EAGAIN)
			return true
		}
	}
	return c
}

// Read implements io.Reader for the buffer.
func (c *directConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeadersTooLarge
	}
	n, err := c.nc.Read(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); c.taping {
		c.tape = append(c.tape, p[:n]...)
	}
	return n, err
}

var errHeadersTooLarge = fmt.Errorf("the headers of the answer are larger than %d bytes", answerHeaderBytes)

// silent says whether a kept connection is still open, and nothing came that nobody asked for.
func (c *directConn) silent() bool {
	if c.raw == nil || c.r.Buffered() > 0 {
		return false
	}
	c.quiet = false
	return c.raw.Read(c.peek) == nil && c.quiet && (c.secure == nil || c.holdsNothing())
}

// holdsNothing says whether TLS has nothing that it took from the socket together with what was asked for: bytes, or the end.
func (c *directConn) holdsNothing() bool {
	if c.secure.SetReadDeadline(past) != nil { // so that the socket is not asked
		return false
	}
	var one [1]byte
	n, err := c.secure.Read(one[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.secure.SetReadDeadline(time.Time{}) == nil
}

// exchange sends a request and reads the head of its answer. The connection is closed after an error.
func (c *directConn) exchange(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	stop := context.AfterFunc(ctx, c.expire)
	response, err := c.ask(r)
	if err != nil {
		stop()
		c.nc.Close()
		if cause := ctx.Err(); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	b := &directBodyReader{body: response.Body, conn: c, stop: stop, keep: !response.Close}
	if response.Body == http.NoBody {
		b.finish(true)
		return response, nil
	}
	response.Body = b
	return response, nil
}

func (c *directConn) ask(r *http.Request) (*http.Response, error) {
	c.left = answerHeaderBytes
	var err error
	if r.ContentLength > 0 {
		c.sending = c.send(r)
	} else if err = writeRequest(c.w, r); err == nil {
		err = c.w.Flush()
	}
	if err == nil {
		_, err = c.r.Peek(1)
		c.sending.answered()
	}
	if err != nil {
		broken, refused := c.sending.failed()
		if broken != nil {
			return nil, broken
		}
		err = cmp.Or(refused, err)
		if c.used && c.left == answerHeaderBytes {
			return nil, fmt.Errorf("%w: %w", errStale, err)
		}
		return nil, err
	}
	for {
		response, err := c.readAnswer(r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if response.StatusCode >= http.StatusOK || response.StatusCode < http.StatusContinue { // what is below is none of 1xx, and whoever asked judges it
			c.left = math.MaxInt64
			return response, nil
		}
		if response.StatusCode == http.StatusSwitchingProtocols {
			return nil, errUnaskedSwitch
		}
		if tell := earlyOf(r.Context()); tell != nil {
			if err := tell(response.StatusCode, textproto.MIMEHeader(response.Header)); err != nil {
				return nil, err
			}
		}
	}
}

// directBodyReader is an answer's body. When it ends, its connection is kept for the next request.
type directBodyReader struct {
	body io.ReadCloser
	conn *directConn // nil when done
	stop func() bool // ends the watch for the end of the request
	keep bool        // the endpoint does
}

// Read gives what the endpoint sends.
func (b *directBodyReader) Read(p []byte) (int, error) {
	if b.conn == nil {
		return 0, io.EOF
	}
	n, err := b.body.Read(p)
	if err != nil {
		b.finish(errors.Is(err, io.EOF))
	}
	return n, err
}

// Close ends the connection, unless the body was read to its end.
func (b *directBodyReader) Close() error {
	if b.conn != nil {
		b.finish(false)
	}
	return nil
}

func (b *directBodyReader) finish(whole bool) {
	c := b.conn
	b.conn = nil
	// Once stop says false, a deadline is being set.
	if b.stop() && whole && b.keep && c.raw != nil && c.r.Buffered() == 0 && c.sending.whole() {
		c.used, c.sending = true, nil
		c.idle.put(c)
		return
	}
	c.nc.Close()
}
