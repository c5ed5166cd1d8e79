// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// askedTimeout is for the answer of the server that the client had asked. Resolvers give up after 5 s and ask their next one; whoever
	// waits as long as they do takes nothing from them.
	askedTimeout = 5 * time.Second
	// nextTimeout is for one of our own servers, so that a second one can be asked before the client gives up.
	nextTimeout = 2 * time.Second
)

var (
	errNoServer = errors.New("the server that was asked is not known, and the proxy has none of its own")
	errTooLong  = errors.New("the answer is longer than the client takes")
)

// Forwarder asks other servers.
type Forwarder struct {
	// Servers are asked in order until one answers, if the client's own is not known.
	Servers func() []netip.AddrPort
	// Dial opens "udp" or "tcp" connections to a server, each from a port that cannot be foretold.
	Dial func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error)
}

// Forward gives the answer of the server that the client had asked, and of no other: whom to ask next is the client's decision, which
// may have servers that do not know the same names. It fails with the last error if no server answers, or ctx ends.
func (f *Forwarder) Forward(ctx context.Context, q Query) ([]byte, error) {
	if q.Asked.IsValid() {
		return f.ask(ctx, q, q.Asked, askedTimeout)
	}
	err := errNoServer
	for _, server := range f.Servers() {
		var answer []byte
		if answer, err = f.ask(ctx, q, server, nextTimeout); err == nil || errors.Is(err, errTooLong) {
			return answer, err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (f *Forwarder) ask(ctx context.Context, q Query, server netip.AddrPort, timeout time.Duration) ([]byte, error) {
	if len(q.Raw) < headerSize {
		return nil, errors.New("query is shorter than a header")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	network := "udp"
	if q.TCP {
		network = "tcp"
	}
	nc, err := f.Dial(ctx, network, server)
	if err != nil {
		return nil, fmt.Errorf("connect DNS server %v: %w", server, err)
	}
	defer shut(nc)
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	fail := func(err error) ([]byte, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // rather than that the connection was closed, which we did
		}
		return nil, fmt.Errorf("answer of DNS server %v: %w", server, err)
	}

	// A fresh id on a fresh socket, which takes packets from this server only: whoever wants to forge an answer must guess id and port.
	// Letters are not capitalized at random beside that (0x20): servers that fold them would fail, and clients that do so themselves find
	// theirs unchanged.
	own := bytes.Clone(q.Raw)
	rand.Read(own[:2]) // never fails
	if q.TCP {
		err = writeMessage(nc, own)
	} else {
		_, err = nc.Write(own)
	}
	if err != nil {
		return fail(err)
	}
	if q.TCP {
		answer, err := readMessage(nc)
		if err == nil && !belongs(own, answer) {
			err = errors.New("it is to another question")
		}
		if err != nil {
			return fail(err)
		}
		copy(answer, q.Raw[:2])
		return answer, nil
	}
	buffer := make([]byte, q.Limit+1)
	for {
		n, err := nc.Read(buffer)
		switch {
		case err != nil:
			return fail(err)
		case !belongs(own, buffer[:n]): // not the server's, or of a query long ago
		case n > q.Limit:
			return nil, errTooLong
		default:
			copy(buffer, q.Raw[:2])
			return buffer[:n], nil
		}
	}
}
