// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Guarded is an established connection whose peer was verified by a configuration of a Source. hbone.Conn is one.
type Guarded interface {
	ConnectionState() (tls.ConnectionState, bool)
	// Done is closed when the connection has ended.
	Done() <-chan struct{}
	// CloseFor ends it, and its streams with an error that wraps why. It may block for as long as the end takes, and may be called
	// again.
	CloseFor(why error) error
}

// guard is a connection that ends when its peer is not believed any more.
type guard struct {
	conn  Guarded
	peer  mesh.Identity
	chain []*x509.Certificate
	since time.Time
}

// guards are all of a Source. Those whose connections have ended, and that nobody released, are forgotten whenever the set has doubled.
type guards struct {
	set       map[*guard]struct{}
	sweepAt   int
	withdrawn map[string]time.Time // when trust in a domain was last lessened
}

const (
	// guardsKept is up to how many ended connections are remembered for nothing, beside as many as are open.
	guardsKept = 16
	// longestHandshake bounds how long before Guard its connection may have been verified: twice the deadline of handshakes, and a reserve.
	longestHandshake = time.Minute
)

// Guard ends a connection, with a *VerifyError, as soon as its peer would not be believed any more: a certificate of its chain was revoked, all roots of its
// trust domain are gone, or the root that vouched for it is gone while its certificate would still last. Certificates that end by time end no connection, and
// neither do roots that go after all certificates below them have ended: so a rotation that waits for them cuts nothing. A connection whose peer's trust domain is no other
// name of another one any more ends as well. The connection must have been verified within the last minute.
//
// want are those of whom the peer had to be one, as for Client; none says that it could be anybody. The handshake took the names of trust domains as they were then: a peer that is
// none of those any more when its connection comes here, because its domain lost its other name in between, is not kept either.
//
// Whoever knows when the connection has ended calls release, which may be called again; of others the Source finds out by and by.
func (s *Source) Guard(conn Guarded, want ...mesh.Identity) (release func()) {
	nothing := func() {}
	state, ok := conn.ConnectionState()
	if !ok {
		return nothing
	}
	peer, err := Peer(state)
	if err != nil {
		return nothing // no configuration of ours let it through
	}
	g := &guard{conn: conn, peer: peer, chain: state.PeerCertificates, since: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nothing
	}
	if s.guards.set == nil {
		s.guards.set = map[*guard]struct{}{}
	}
	if len(s.guards.set) >= s.guards.sweepAt {
		for g := range s.guards.set {
			if g.ended() {
				delete(s.guards.set, g)
			}
		}
		s.guards.sweepAt = 2*len(s.guards.set) + guardsKept
	}
	s.guards.set[g] = struct{}{}
	if len(want) > 0 && !s.expected(want, peer) {
		why := &VerifyError{Reason: ReasonUnwanted, Peer: peer.String(), Err: fmt.Errorf("want one of %v, by the trust domains' names of now", want)}
		s.wait.Go(func() { _ = conn.CloseFor(why) }) // says nothing
	}
	if at, ok := s.guards.withdrawn[peer.TrustDomain]; ok && time.Since(at) < longestHandshake {
		s.recheck([]*guard{g}) // it may have been verified before
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.guards.set, g)
	}
}

// outlived says whether the only thing wrong with a peer is that its root went after its certificate had ended anyway.
func (g *guard) outlived(err error) bool {
	refused, ok := errors.AsType[*VerifyError](err)
	return ok && refused.Reason == ReasonChain && time.Now().After(g.chain[0].NotAfter)
}

func (g *guard) ended() bool {
	select {
	case <-g.conn.Done():
		return true
	default:
		return false
	}
}

// changed looks at the guarded connections to a domain if there is less trust in it than before. It needs mu.
func (s *Source) changed(trustDomain string, before *trust) {
	if s.closed || before.within(s.trustOf(trustDomain)) {
		return
	}
	if s.guards.withdrawn == nil {
		s.guards.withdrawn = map[string]time.Time{}
	}
	s.guards.withdrawn[trustDomain] = time.Now()
	var concerned []*guard
	for g := range s.guards.set {
		if g.peer.TrustDomain == trustDomain && !g.ended() {
			concerned = append(concerned, g)
		}
	}
	s.recheck(concerned)
}

// within says whether whoever is believed by t is believed by the other too.
func (t *trust) within(other *trust) bool {
	if t == nil || t == other {
		return true
	}
	if other == nil || !t.revoked.holds(other.revoked) {
		return false
	}
	return !slices.ContainsFunc(t.roots.X509Authorities(), func(root *x509.Certificate) bool { return !other.roots.HasX509Authority(root) })
}

// recheck verifies the peers of connections anew and ends those that fail, in the background. It needs mu.
func (s *Source) recheck(concerned []*guard) {
	if len(concerned) == 0 {
		return
	}
	s.wait.Go(func() {
		verdicts := map[string]error{} // by leaf: a peer has many connections
		for _, g := range concerned {
			leaf := string(g.chain[0].Raw)
			err, ok := verdicts[leaf]
			if !ok {
				if _, err = s.believe(g.peer, g.chain, g.since); err != nil && g.outlived(err) {
					err = nil
				}
				verdicts[leaf] = err
				if err != nil {
					s.o.Log.Info("a peer is not believed any more, and its connections end", "peer", g.peer.String(), "reason", err.Error())
				}
			}
			if err != nil {
				s.wait.Go(func() { _ = g.conn.CloseFor(err) }) // says nothing
			}
		}
	})
}
