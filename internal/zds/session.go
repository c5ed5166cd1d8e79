// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// serverSession is one connected proxy. Its run goroutine alone writes to the connection and waits for acknowledgements, a second
// one reads; other goroutines hand it their messages over orders.
type serverSession struct {
	server *Server
	conn   *net.UnixConn
	log    logr.Logger
	orders chan order
	done   chan struct{} // closed when the session takes no more orders

	owing   chan struct{} // of capacity 1: filled when owed is
	mu      sync.Mutex
	owed    map[string]struct{} // pods of which the proxy was not told something, because whoever ordered it waited no longer
	refused map[string]struct{} // pods that the proxy has refused, and not taken since

	proxy Proxy        // written by run until the session has joined
	late  atomic.Int64 // acknowledgements that timed out and may still come; they match only by order. Written by run
}

// order is one message that some goroutine waits for.
type order struct {
	kind   kind
	uid    string
	result chan error // of capacity 1: the session never waits for the one who ordered
}

func newServerSession(s *Server, conn *net.UnixConn) *serverSession {
	return &serverSession{server: s, conn: conn, log: s.log, orders: make(chan order), done: make(chan struct{}), owing: make(chan struct{}, 1), owed: map[string]struct{}{}, refused: map[string]struct{}{}}
}

// send hands a message about a pod to the session and waits for the proxy's acknowledgement. If ctx ends while the session is busy, its proxy is told how things are with the
// pod as soon as it is not. A proxy that goes before it has answered is as good as none: ErrNoProxy.
func (c *serverSession) send(ctx context.Context, k kind, uid string) error {
	o := order{kind: k, uid: uid, result: make(chan error, 1)}
	select {
	case c.orders <- o:
	case <-c.done:
		return ErrNoProxy
	case <-ctx.Done():
		c.owe(uid)
		return fmt.Errorf("wait for the node proxy: %w", context.Cause(ctx))
	}
	// From here on the session answers within answerTimeout, so ctx is not asked: the outcome is worth knowing.
	err := <-o.result
	if gone(err) {
		return ErrNoProxy
	}
	return err
}

// hung says that the proxy has not acknowledged in time what it was told, and still has not. Nobody should wait for it.
func (c *serverSession) hung() bool { return c.late.Load() > 0 }

// owe notes a pod for settle. What is noted is bounded by what a busy session lets its callers wait for, and is one uid for each pod.
func (c *serverSession) owe(uid string) {
	c.mu.Lock()
	c.owed[uid] = struct{}{}
	c.mu.Unlock()
	select {
	case c.owing <- struct{}{}:
	default:
	}
}

// refuses says whether the proxy has refused a pod, and not taken it since.
func (c *serverSession) refuses(uid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.refused[uid]
	return ok
}

// answered notes what the proxy said to an Add, or a Del.
func (c *serverSession) answered(k kind, uid string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, refused := errors.AsType[*RefusedError](err); refused && k == kindAdd {
		c.refused[uid] = struct{}{}
	} else if err == nil {
		delete(c.refused, uid)
	}
}

// settle tells the proxy of the pods that it is owed, as they are now. A pod that it refuses does not stop the others.
func (c *serverSession) settle(acks <-chan received) error {
	c.mu.Lock()
	owed := slices.Sorted(maps.Keys(c.owed))
	clear(c.owed)
	c.mu.Unlock()
	for _, uid := range owed {
		k := kindDel
		if c.server.has(uid) {
			k = kindAdd
		}
		if err := c.exchange(k, uid, acks); ends(err) {
			return err
		} else if err != nil {
			c.log.Error(err, "what the node proxy was to be told earlier not taken", "uid", uid)
			c.server.news()
		}
	}
	return nil
}

// received is one packet from the proxy, or the end of the connection.
type received struct {
	ack ack
	err error
}

func (c *serverSession) run(ctx context.Context) error {
	defer close(c.done)
	if err := c.hello(ctx); err != nil {
		c.conn.Close()
		return err
	}
	// One acknowledgement can be waiting to be read while another is being looked at; the reader stops at anything beyond.
	acks := make(chan received, 1)
	stopped := make(chan struct{})
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		c.read(acks, stopped)
	}()
	defer func() {
		close(stopped)
		c.conn.Close()
		<-reading
	}()
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()

	c.server.hold(ctx, c.proxy)
	snapshot := c.server.join(c)
	c.log.Info("node proxy connected", "pods", len(snapshot))
	if err := c.sendSnapshot(snapshot, acks); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case o := <-c.orders:
			err := c.exchange(o.kind, o.uid, acks)
			o.result <- err
			if ends(err) {
				return err
			}
		case <-c.owing:
			if err := c.settle(acks); err != nil {
				return err
			}
		case r := <-acks:
			// Nothing is in flight: this is the end, a late acknowledgement, or noise.
			switch {
			case r.err != nil:
				return r.err
			case c.late.Load() > 0:
				c.late.Add(-1)
			default:
				return protocolErrorf("acknowledgement of nothing")
			}
		}
	}
}

func (c *serverSession) hello(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	if err := c.conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	packet, files, err := readPacket(c.conn, make([]byte, MaxPacket))
	if err != nil {
		return fmt.Errorf("wait for hello: %w", err)
	}
	closeAll(files)
	said, err := decodeHello(packet)
	if err != nil {
		return protocolErrorf("hello: %v", err)
	}
	if said.version != versionV1 {
		return protocolErrorf("hello of version %d, want %d", said.version, versionV1)
	}
	c.proxy = said.proxy
	return c.conn.SetReadDeadline(time.Time{})
}

// read passes what the proxy sends to run, until the connection ends. A reader that is always there notices a dead proxy at once.
func (c *serverSession) read(acks chan<- received, stopped <-chan struct{}) {
	buf := make([]byte, MaxPacket)
	for {
		packet, files, err := readPacket(c.conn, buf)
		closeAll(files)
		r := received{err: err}
		if err == nil {
			if len(files) > 0 {
				r.err = protocolErrorf("acknowledgement with %d descriptors", len(files))
			} else if r.ack, err = decodeAck(packet); err != nil {
				r.err = protocolErrorf("%v", err)
			}
		}
		select {
		case acks <- r:
		case <-stopped:
			return
		}
		if r.err != nil {
			return
		}
	}
}

// sendSnapshot sends every pod and ends the snapshot. A pod that the proxy refuses does not stop the others: the proxy retries it.
func (c *serverSession) sendSnapshot(uids []string, acks <-chan received) error {
	for _, uid := range uids {
		if err := c.exchange(kindAdd, uid, acks); err != nil {
			if ends(err) {
				return err
			}
			c.log.Error(err, "pod of the snapshot not taken", "uid", uid)
			c.server.news()
		}
	}
	err := c.exchange(kindSnapshot, "", acks)
	if err != nil && !ends(err) {
		c.log.Error(err, "end of the snapshot not taken")
		return nil
	}
	return err
}

// exchange sends one message and waits for its acknowledgement. Of the errors only those of ends() end the session.
func (c *serverSession) exchange(k kind, uid string, acks <-chan received) error {
	r := request{kind: k, workload: Workload{UID: uid}}
	var netns *os.File
	if k == kindAdd {
		e, ok, err := c.server.lookup(uid)
		switch {
		case err != nil:
			return &entryError{err}
		case !ok:
			return nil // removed meanwhile; its Del comes, or came, as an order of its own
		}
		r.workload = e.workload
		if netns = e.netns; netns != nil {
			defer netns.Close()
		} else {
			r.kind = kindKeep
		}
	}
	packet := encodeRequest(r)
	if len(packet) > MaxPacket {
		return &entryError{fmt.Errorf("%s of %s is %d bytes long, more than %d", r.kind, uid, len(packet), MaxPacket)}
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if err := writePacket(c.conn, packet, netns); err != nil {
		return fmt.Errorf("send %s: %w", r.kind, err)
	}
	err := c.await(r.kind, acks)
	c.answered(k, uid, err)
	return err
}

func (c *serverSession) await(k kind, acks <-chan received) error {
	deadline := time.NewTimer(c.server.patience)
	defer deadline.Stop()
	for {
		select {
		case r := <-acks:
			switch {
			case r.err != nil:
				return r.err
			case c.late.Load() > 0:
				c.late.Add(-1)
				continue
			case r.ack.err != "":
				return &RefusedError{Reason: r.ack.err}
			}
			return nil
		case <-deadline.C:
			// The connection is kept: the proxy may only be slow. Its answer, if it comes, is for this message.
			c.late.Add(1)
			return &slowError{kind: k, after: c.server.patience}
		}
	}
}

// entryError is trouble with one pod of ours; the connection is none the worse for it.
type entryError struct{ err error }

func (e *entryError) Error() string { return e.err.Error() }
func (e *entryError) Unwrap() error { return e.err }

// slowError says that an acknowledgement did not come in time.
type slowError struct {
	kind  kind
	after time.Duration
}

func (e *slowError) Error() string {
	return fmt.Sprintf("node proxy did not acknowledge %s within %s", e.kind, e.after)
}

// Timeout marks the error as one of time, as net.Error does.
func (e *slowError) Timeout() bool { return true }

// ends says whether an error of exchange ends the session.
func ends(err error) bool {
	if err == nil {
		return false
	}
	_, refused := errors.AsType[*RefusedError](err)
	_, slow := errors.AsType[*slowError](err)
	_, own := errors.AsType[*entryError](err)
	return !refused && !slow && !own
}

// validText makes s fit for a protobuf string.
func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
