// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

// under is put beneath the TLS of every connection of ours that is measured, and beneath that of no control.
func under(nc net.Conn) net.Conn { return hbone.NewTransport(nc) }

// hbonePair makes the two ends of an HBONE connection over a connection's two ends: loopback TCP or, for an inner tunnel, what carries it.
func (l *loopback) hbonePair(ctx context.Context, a, b net.Conn) (client, server *hbone.Conn, err error) {
	err = as(ours, func() error {
		x, y, err := l.secure(ctx, under(a), under(b))
		if err != nil {
			return err
		}
		if client, err = hbone.NewClient(x, hbone.Settings{}); err != nil {
			return err
		}
		server = hbone.NewServer(y, hbone.Settings{})
		l.keep(server, client)
		return nil
	})
	return client, server, err
}

// hboneOverTCP is hbonePair over a TCP connection of its own.
func (l *loopback) hboneOverTCP(ctx context.Context) (client, server *hbone.Conn, err error) {
	a, b, err := l.tcp(ctx)
	if err != nil {
		return nil, nil, err
	}
	return l.hbonePair(ctx, a, b)
}

// authority is what the streams that are measured ask for.
const authority = "cart.shop.svc.cluster.local:80"

// openStream gives the two ends of a new stream. They end with their connection.
func openStream(ctx context.Context, client, server *hbone.Conn) (*hbone.Stream, *hbone.Stream, error) {
	var near, far *hbone.Stream
	err := together(
		func() (err error) {
			near, _, err = client.Open(ctx, authority, nil)
			return err
		},
		func() error {
			r, err := server.Accept(ctx)
			if err != nil {
				return err
			}
			far, err = r.Accept(nil)
			return err
		},
	)
	if err != nil {
		return nil, nil, err // the other end may still be on its way
	}
	return near, far, nil
}
