// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// hboneDoubleBulk sends through a tunnel in a tunnel: the middle ends the outer one and relays the inner one's bytes unread to a TCP connection, as the
// gateway does. The control is TLS in TLS with the same relay in the middle, where the outer TLS ends. In either there are two TCP connections and two
// layers of TLS, the inner one from end to end.
func hboneDoubleBulk(ctx context.Context, out io.Writer) (result, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	subject, err := l.doubleHBONE(ctx)
	if err != nil {
		return result{}, err
	}
	known, err := l.doubleTLS(ctx)
	if err != nil {
		return result{}, err
	}
	cost, speed, err := compareFlow(out, subject, known, "TLS in TLS")
	if err != nil {
		return result{}, err
	}
	// Which of three parties gets a core when decides more here than what they do with it, so there is no goal.
	fmt.Fprintf(out, "throughput: %.2f GB/s, TLS in TLS %.2f GB/s; no goal\n", speed.Ours, *speed.Control)
	return ratio(out, costGoal, cost), nil
}

func (l *loopback) doubleHBONE(ctx context.Context) (*path, error) {
	client, middle, err := l.hboneOverTCP(ctx)
	if err != nil {
		return nil, err
	}
	near, mid, err := openStream(ctx, client, middle)
	if err != nil {
		return nil, err
	}
	onward, last, err := l.tcp(ctx)
	if err != nil {
		return nil, err
	}
	l.serve(ours, relayed(ctx, mid, relay.AsConn(onward)))
	innerClient, innerServer, err := l.hbonePair(ctx, near, last)
	if err != nil {
		return nil, err
	}
	from, to, err := openStream(ctx, innerClient, innerServer)
	if err != nil {
		return nil, err
	}
	return newPath([]io.Writer{from}, []io.Reader{to}), nil
}

func (l *loopback) doubleTLS(ctx context.Context) (*path, error) {
	near, mid, err := l.bareTLS(ctx)
	if err != nil {
		return nil, err
	}
	onward, last, err := l.tcp(ctx)
	if err != nil {
		return nil, err
	}
	l.serve(control, relayed(ctx, mid, relay.AsConn(onward)))
	from, to, err := l.secure(ctx, near, last)
	if err != nil {
		return nil, err
	}
	return newPath([]io.Writer{from}, []io.Reader{to}), nil
}

// relayed copies both ways until the connections are closed.
func relayed(ctx context.Context, a, b relay.Conn) func() {
	return func() { _ = relay.Copy(ctx, a, b, new(relay.Stats)) } // the ends of the path tell of an error
}
