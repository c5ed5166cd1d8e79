// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Session is an inner session that was just made.
type Session struct {
	Conn *hbone.Conn
	// Pod is the gateway's name for the pod that the session reaches; empty if it gave none, and then the session serves one stream.
	Pod string
	// Ready is how many pods the gateway could have chosen from; 0 if it did not say.
	Ready int
	// Gone are pods, of those that it was asked to avoid, which the gateway said are not ready any more.
	Gone []string
	// Peer is what the last hop proved, and Gateway what the gateway did.
	Peer, Gateway mesh.Identity
	// Until is when the certificates of the session's ends begin to end: no new streams after that.
	Until time.Time
	// Lanes, if set, says how many ways to the gateway are worth having, each with a session of its own to the pod. It is called with locks held and must be quick.
	Lanes func() int
	// Outdated, if set, says that the session takes no new streams: its outer connection drains, for example. It is called with locks held and must be quick.
	Outdated func() bool
	// Carrier, if set, says what is wrong with what carries the session, its outer connection, or nil. It is asked when nothing is heard in the session.
	Carrier func(context.Context) error
	// Ended, if set, is called once the connection has ended.
	Ended func()
}

// PodError is why a session could not be made to a pod that the gateway had named: another pod may do better.
type PodError struct {
	Pod string
	// Ready is how many pods the gateway could have chosen from; 0 if it did not say.
	Ready int
	Err   error
}

func (e *PodError) Error() string { return fmt.Sprintf("pod %s: %v", e.Pod, e.Err) }

// Unwrap gives the cause.
func (e *PodError) Unwrap() error { return e.Err }

// session is one that a Pool keeps, from the moment that it begins to be opened. Guarded by the Pool's mu, but for opened and what is written before it is closed, and held.
type session struct {
	Session
	set     *set
	pod     *pod          // nil while it is being opened, and for one that serves a single stream
	streams int           // that it carries or will carry
	limit   int           // of streams
	quiet   time.Time     // since when it carries none
	retired bool          // it takes no new ones
	opened  chan struct{} // closed when the opening is over
	// capacity is what discovery said when it began to be opened.
	capacity uint32
	seeks    bool  // the gateway was asked for a pod that is not reached yet
	err      error // why the opening failed
	lane     int   // see Wish
	beside   bool  // see Wish
	given    bool  // the opener gave up: that says nothing of the gateway
	blind    bool  // it was opened before anything was known: who waited for it chooses again
	// held says what its opening waits for, see Opening.
	held atomic.Pointer[func() error]
}

// openingKey is where the context of a Request.Dial has the session that is being opened.
type openingKey struct{}

// Opening notes what a Request.Dial waits for. Streams that wait for the same session ask held when their time is over: who opens it may have more time, and until then nobody else could tell
// who did not answer. nil says that it is not known. ctx is the one that Dial was given; with another one nothing is noted.
func Opening(ctx context.Context, held func() error) {
	if s, ok := ctx.Value(openingKey{}).(*session); ok {
		s.held.Store(&held)
	}
}

// late is the error of one whose time is over before the session is open.
func (s *session) late(ctx context.Context) error {
	if held := s.held.Load(); held != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		if err := (*held)(); err != nil {
			return err
		}
	}
	return fmt.Errorf("inner: waiting for a session: %w", context.Cause(ctx))
}

// pod is what sessions reach. One that failed lately is remembered for a while without any.
type pod struct {
	name     string
	sessions []*session
	turn     uint64
	since    time.Time // when the first of them reached it
	late     recency
	fails    int // in a row
	until    time.Time
	widening []int     // lanes in which sessions are being opened beside these
	narrow   time.Time // until when none are
}

// load is how many streams of ours the pod carries, in those of its sessions that take more.
func (p *pod) load() (streams int, room bool) {
	for _, s := range p.sessions {
		streams += s.streams
		room = room || s.streams < s.limit
	}
	return streams, room
}

// lightest is the session with room that carries the fewest streams, or nil.
func (p *pod) lightest() (least *session) {
	for _, s := range p.sessions {
		if s.streams < s.limit && (least == nil || s.streams < least.streams) {
			least = s
		}
	}
	return least
}

// fits says whether a stream that expects these identities may be opened in the session now.
func (s *session) fits(r *Request, now time.Time) bool {
	return now.Before(s.Until) && !s.leaving() &&
		r.expects(r.Last, s.Peer) && r.expects(r.Next, s.Gateway)
}

// leaving says that the session takes no new streams, ever.
func (s *Session) leaving() bool { return s.Conn.Draining() || s.Outdated != nil && s.Outdated() }

func (r *Request) expects(want []mesh.Identity, proved mesh.Identity) bool {
	if r.Expected != nil {
		return r.Expected(want, proved)
	}
	return slices.Contains(want, proved)
}
