// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// halfConn is a connection whose directions end one by one.
type halfConn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// proxyMark is what makes the rules in a captured pod let a socket's packets pass (docs/redirection.md). A pod without rules does not mind it.
const proxyMark = 0x539

// marked dials as a proxy does.
var marked = net.Dialer{Control: mark}

func mark(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, proxyMark) }); failed != nil {
		return failed
	}
	return err
}

// appRelay is half of a control: it takes connections to Listen on to To, and does nothing else.
func appRelay(o appOrder) (appFound, error) {
	return appFound{}, listenAll(net.ListenConfig{Control: mark}, o.Listen, func(c *net.TCPConn) {
		next, err := marked.DialContext(context.Background(), "tcp4", o.To)
		if err != nil {
			return // its client sees the end
		}
		copyBoth(c, next.(*net.TCPConn))
	})
}

// appRelayTLS is the same with TLS on one of its sides: on the one that it dials or, if it is Serving, on the one that it accepts. It is the product's TLS.
func appRelayTLS(o appOrder) (appFound, error) {
	signer, err := ca.NewSigner(o.Authority)
	if err != nil {
		return appFound{}, err
	}
	source := mtls.NewSource(signed{signer}, mtls.SourceOptions{}) // it lives as long as the process
	client, server := source.Client(clientIdentity, []mesh.Identity{serverIdentity}), source.Server(serverIdentity)
	return appFound{}, listenAll(net.ListenConfig{Control: mark}, o.Listen, func(c *net.TCPConn) {
		dialled, err := marked.DialContext(context.Background(), "tcp4", o.To)
		if err != nil {
			return // its client sees the end
		}
		var near, far halfConn = c, dialled.(*net.TCPConn)
		if o.Serving {
			near = tls.Server(c, server)
		} else {
			far = tls.Client(dialled, client)
		}
		copyBoth(near, far) // the first read or write does the handshake
	})
}

// copyBoth copies until both directions have ended.
func copyBoth(a, b halfConn) {
	defer a.Close()
	defer b.Close()
	// What fails ends both connections, which is all that a relay this small knows of errors.
	one := func(to, from halfConn) func() error {
		return func() error {
			if _, err := io.Copy(to, from); err != nil {
				return err
			}
			return to.CloseWrite()
		}
	}
	_ = together(one(a, b), one(b, a))
}
