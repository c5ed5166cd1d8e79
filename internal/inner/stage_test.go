// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const patience = 10 * time.Second // for things that take milliseconds

var (
	lastID  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}
	nextID  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "west"}
	otherID = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "pay"}
)

// stage is a scripted gateway with pods behind it: real HBONE connections without TLS, which is the caller's business, over pipes.
type stage struct {
	t    *testing.T
	pool *Pool

	mu    sync.Mutex
	pods  []*standIn // in the order in which the gateway gives them
	dials int
	asked []string // the values of avoid
	mute  bool     // the gateway names no pods
	peer  mesh.Identity
	until time.Time
	old   bool // sessions are outdated
	block chan struct{}
	fail  error
	probe time.Duration // 0: the default
	lanes int           // of each session
	ways  []int         // the lanes that were asked for
	cuts  []string      // the lanes that were cut, and why
	// carrier is that of each session.
	carrier func(context.Context) error
}

// standIn is one pod.
type standIn struct {
	name     string
	status   int         // what it answers; 0 accepts
	silent   atomic.Bool // nothing that is sent to it arrives
	broken   bool        // no session can be made to it
	frozen   bool        // nor does it say so
	hangs    bool        // its application is not connected, and does not refuse
	gone     bool        // it is not ready
	hits     int
	dialling int // sessions that are being made
	conns    []*hbone.Conn
}

// clock is one that the test moves. The pool reads it also when nobody asks for a stream: when it sweeps.
type clock struct {
	began time.Time
	past  atomic.Int64
}

func (c *clock) now() time.Time { return c.began.Add(time.Duration(c.past.Load())) }

func (c *clock) pass(d time.Duration) { c.past.Add(int64(d)) }

// clock gives the pool one.
func (s *stage) clock() *clock {
	c := &clock{began: time.Now()}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.pool.now = c.now
	return c
}

func newStage(t *testing.T, pods int) *stage {
	s := &stage{t: t, peer: lastID, until: time.Now().Add(time.Hour)}
	s.pool = NewPool(func(lane int, why error) { s.set(func() { s.cuts = append(s.cuts, fmt.Sprint(lane, ": ", why)) }) })
	began := time.Now()
	s.pool.now = func() time.Time { return began } // however long this machine takes
	for i := range pods {
		s.pods = append(s.pods, &standIn{name: fmt.Sprintf("pod-%d", i)})
	}
	t.Cleanup(func() {
		s.mu.Lock()
		var conns []*hbone.Conn
		for _, p := range s.pods {
			conns = append(conns, p.conns...)
		}
		s.mu.Unlock()
		s.pool.Close()
		for _, c := range conns {
			c.Close()
		}
	})
	return s
}

// running is how many sessions the pod has now, or will have.
func (p *standIn) running() int {
	n := p.dialling
	for _, c := range p.conns {
		if c.Err() == nil {
			n++
		}
	}
	return n
}

// dial is the gateway: the first pod that is ready and not to be avoided, or else one that is to be, and carries the fewest sessions.
func (s *stage) dial(ctx context.Context, wish Wish) (Session, error) {
	avoid, patience := wish.Avoid, wish.Patience
	s.mu.Lock()
	s.dials++
	s.asked, s.ways = append(s.asked, avoid), append(s.ways, wish.Lane)
	block, fail := s.block, s.fail
	avoided := strings.Split(avoid, ",")
	var pick *standIn
	ready := 0
	for _, class := range []bool{false, true} {
		var best *standIn
		for _, p := range s.pods {
			if p.gone || slices.Contains(avoided, p.name) != class {
				continue
			}
			if ready++; best == nil || p.running() < best.running() {
				best = p
			}
		}
		if pick == nil {
			pick = best
		}
	}
	out := Session{Ready: ready, Peer: s.peer, Gateway: nextID, Until: s.until, Carrier: s.carrier, Outdated: func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.old }}
	if lanes := s.lanes; lanes > 0 {
		out.Lanes = func() int { return lanes }
	}
	var gone []string
	for _, p := range s.pods {
		if p.gone && slices.Contains(avoided, p.name) {
			gone = append(gone, p.name)
		}
	}
	if out.Gone = gone; pick != nil && !s.mute {
		out.Pod = pick.name
	}
	frozen, broken := false, false
	if pick != nil {
		pick.dialling++
		defer s.set(func() { pick.dialling-- })
		frozen, broken = pick.frozen, pick.broken
	}
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return Session{}, ctx.Err()
		}
	}
	switch {
	case fail != nil:
		return Session{}, fail
	case pick == nil:
		return Session{}, errors.New("no pod")
	case broken:
		return Session{}, &PodError{Pod: pick.name, Ready: ready, Err: errors.New("no handshake")}
	case frozen && patience > 0 && ready > 1:
		return Session{}, &PodError{Pod: pick.name, Ready: ready, Err: errors.New("no handshake in time")}
	case frozen:
		<-ctx.Done()
		return Session{}, &PodError{Pod: pick.name, Ready: ready, Err: ctx.Err()}
	}
	near, far := net.Pipe()
	server := hbone.NewServer(far, hbone.Settings{})
	s.mu.Lock()
	pick.conns = append(pick.conns, server)
	s.mu.Unlock()
	go s.serve(pick, server)
	var err error
	out.Conn, err = hbone.NewClient(&line{near, &pick.silent}, hbone.Settings{ProbeAfter: s.probe, ProbeTimeout: s.probe})
	return out, err
}

// line loses what is sent to a pod that is silent.
type line struct {
	net.Conn
	cut *atomic.Bool
}

func (l *line) Write(p []byte) (int, error) {
	if l.cut.Load() {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

// CloseWrite ends our direction towards a pod that is silent, as TLS can, which is then waited for to end its own.
func (l *line) CloseWrite() error {
	if l.cut.Load() {
		return nil
	}
	return errors.ErrUnsupported
}

// serve answers streams with the pod's name and what was asked for, and keeps them until the client ends.
func (s *stage) serve(p *standIn, conn *hbone.Conn) {
	for {
		request, err := conn.Accept(context.Background())
		if err != nil {
			return
		}
		s.mu.Lock()
		status, hangs := p.status, p.hangs
		p.hits++
		s.mu.Unlock()
		go func() {
			if hangs {
				<-request.Context().Done()
				return
			}
			if status != 0 {
				request.Reject(status, nil)
				return
			}
			stream, err := request.Accept(nil)
			if err != nil {
				return
			}
			defer stream.Close()
			fmt.Fprintf(stream, "%s %s", p.name, request.Authority)
			stream.CloseWrite()
			io.Copy(io.Discard, stream)
		}()
	}
}

func (s *stage) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func key(authority string) Key { return Key{Network: "west", Authority: authority} }

func (s *stage) request(authority string) Request {
	return Request{Authority: authority, Last: []mesh.Identity{lastID}, Next: []mesh.Identity{nextID}, Capacity: 1, Dial: s.dial}
}

// open opens a stream and checks that it reached what it asked for.
func (s *stage) open(change func(*Request)) (*Stream, error) {
	const authority = "cart.shop.svc.cluster.local:80"
	r := s.request(authority)
	if change != nil {
		change(&r)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	stream, err := s.pool.Open(ctx, key(r.Authority), r)
	if err != nil {
		return nil, err
	}
	said, err := io.ReadAll(stream)
	if err != nil {
		s.t.Errorf("read: %v", err)
	}
	if name, asked, _ := strings.Cut(string(said), " "); asked != r.Authority || !s.mute && name != stream.Pod {
		s.t.Errorf("asked for %s at %q, reached %q", r.Authority, stream.Pod, said)
	}
	return stream, nil
}

// close ends a stream as a connection does that is over.
func closeStream(stream *Stream) {
	stream.CloseWrite()
	stream.Close()
	stream.Done()
}

// call opens a stream and ends it, and gives the pod that it reached.
func (s *stage) call(change func(*Request)) string {
	s.t.Helper()
	stream, err := s.open(change)
	if err != nil {
		s.t.Fatal(err)
	}
	closeStream(stream)
	return stream.Pod
}

// soon polls for what other goroutines will do soon.
func (s *stage) soon(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (s *stage) sessions() int { n, _ := s.pool.Counts(); return n }

func (s *stage) handshakes() int { s.mu.Lock(); defer s.mu.Unlock(); return s.dials }
