// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/go-logr/logr"
)

const (
	// firstBackoff and lastBackoff bound the pause between two attempts to reach the agent; it doubles in between. The socket is local and
	// an attempt costs nothing, while pods wait to start until it succeeds.
	firstBackoff = 10 * time.Millisecond
	lastBackoff  = time.Second
	// settled is how long a connection must have lived for the next pause to be short again.
	settled = 5 * time.Second
	// answerTimeout bounds writing one message or, on the agent's side, waiting for its acknowledgement.
	answerTimeout = 5 * time.Second
)

// Handler is the proxy's half: what is done about the agent's messages. Run calls it from one goroutine, one message at a time, and
// acknowledges when the call returns; the agent waits 5 s for that, so calls should be quick. A connection begins with a snapshot:
// Add or Keep for every pod, then SnapshotSent, at which pods that were not named on this connection are to be shut down.
type Handler interface {
	// Add begins to serve a pod in its network namespace, and returns when its listeners are bound. The handler owns netns, also
	// when it fails. The same uid in the same namespace again is to be a no-op, but for what w says of its end. An error goes to the
	// agent as the acknowledgement's text; the handler then retries by itself, the agent will not.
	Add(ctx context.Context, w Workload, netns *os.File) error
	// Keep says, before SnapshotSent only, that a pod goes on although the agent has no namespace to send. An error goes to the agent.
	Keep(uid string) error
	// Del says that a pod is gone. A uid that is not known is to be ignored.
	Del(uid string)
	// SnapshotSent ends the snapshot of this connection.
	SnapshotSent()
}

// StateHandler is a Handler that also wants to know when a connection begins and ends. Connected(true) comes before the first
// message of each snapshot, Connected(false) after the last message of that connection, from the same goroutine as the messages.
type StateHandler interface {
	Handler
	Connected(up bool)
}

// Run is the proxy's side of the protocol: it connects to the agent's socket at path, says who it is, serves its messages with h, and connects again
// when the connection is lost, without touching what h serves in between. It returns nil when ctx ends, and a *ProtocolError when
// the agent broke the protocol: then the two do not understand each other, and to call it again at once is of no use.
func Run(ctx context.Context, path string, self Proxy, h Handler, log logr.Logger) error {
	backoff := firstBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := connectAndServe(ctx, path, self, h, log)
		if ctx.Err() != nil {
			break
		}
		if _, ok := errors.AsType[*ProtocolError](err); ok {
			return err
		}
		if time.Since(began) > settled {
			backoff = firstBackoff
		}
		log.V(1).Info("agent not connected", "path", path, "retry", backoff, "cause", err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(backoff + rand.N(backoff/5)):
		}
		backoff = min(backoff*2, lastBackoff)
	}
	return nil //nolint:nilerr // what ended the last connection is of no interest to who ended it all
}

func connectAndServe(ctx context.Context, path string, self Proxy, h Handler, log logr.Logger) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, path)
	if err != nil {
		return err
	}
	c := nc.(*net.UnixConn)
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()

	if err := c.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if err := writePacket(c, encodeHello(hello{versionV1, self}), nil); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	log.Info("agent connected", "path", path)
	if s, ok := h.(StateHandler); ok {
		s.Connected(true)
		defer s.Connected(false)
	}
	return (&clientSession{conn: c, handler: h, log: log}).serve(ctx)
}

// clientSession is one connection of the proxy to an agent.
type clientSession struct {
	conn     *net.UnixConn
	handler  Handler
	log      logr.Logger
	complete bool // SnapshotSent was seen on this connection
}

func (s *clientSession) serve(ctx context.Context) error {
	buf := make([]byte, MaxPacket)
	for {
		packet, files, err := readPacket(s.conn, buf)
		if err != nil {
			return err
		}
		answer, err := s.handle(ctx, packet, files)
		if err != nil {
			return err
		}
		if err := s.conn.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
			return err
		}
		if err := writePacket(s.conn, encodeAck(answer), nil); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
}

// handle serves one message and owns the descriptors that came with it. An error ends the connection.
func (s *clientSession) handle(ctx context.Context, packet []byte, files []*os.File) (ack, error) {
	r, err := decodeRequest(packet)
	if err != nil {
		closeAll(files)
		return ack{}, protocolErrorf("%v", err)
	}
	if r.kind == kindAdd && len(files) != 1 || r.kind != kindAdd && len(files) != 0 {
		closeAll(files)
		return ack{}, protocolErrorf("%s with %d descriptors", r.kind, len(files))
	}
	switch r.kind {
	case kindAdd:
		return s.answer(r, s.handler.Add(ctx, r.workload, files[0])), nil
	case kindKeep:
		if s.complete {
			return ack{}, protocolErrorf("keep of %q after the snapshot", r.workload.UID)
		}
		return s.answer(r, s.handler.Keep(r.workload.UID)), nil
	case kindDel:
		s.handler.Del(r.workload.UID)
	case kindSnapshot:
		if s.complete {
			return ack{}, protocolErrorf("second snapshot on one connection")
		}
		s.complete = true
		s.handler.SnapshotSent()
	}
	return ack{}, nil
}

// maxAckText leaves room for the message around the text of a refusal.
const maxAckText = MaxPacket - 64

func (s *clientSession) answer(r request, err error) ack {
	if err == nil {
		return ack{}
	}
	s.log.Error(err, "pod refused", "kind", r.kind.String(), "uid", r.workload.UID, "workload", r.workload.Namespace+"/"+r.workload.Name)
	return ack{err: shorten(err.Error(), maxAckText)}
}

// shorten cuts s to at most limit bytes, at a rune's boundary, and replaces what is not UTF-8.
func shorten(s string, limit int) string {
	s = validText(s)
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return s[:end]
}
