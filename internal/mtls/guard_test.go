// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// guarded is a connection that only remembers how it ended.
type guarded struct {
	state tls.ConnectionState
	done  chan struct{}
	once  sync.Once // it may be told twice, as hbone.Conn
	why   error
}

func (g *guarded) ConnectionState() (tls.ConnectionState, bool) { return g.state, true }
func (g *guarded) Done() <-chan struct{}                        { return g.done }
func (g *guarded) CloseFor(why error) error {
	g.once.Do(func() { g.why = why; close(g.done) })
	return nil
}

// from makes a connection whose peer is of the authority.
func from(t *testing.T, by *authority, uri string, change func(*x509.Certificate)) *guarded {
	t.Helper()
	made := forge(t, by, []string{uri}, time.Hour, change).Certificates[0]
	g := &guarded{done: make(chan struct{})}
	for _, der := range made.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		g.state.PeerCertificates = append(g.state.PeerCertificates, c)
	}
	return g
}

const friend = "spiffe://friend.example/ns/shop/sa/till"

// Connections end when their peers are believed no more, and no others do: not those that only became old, not even when their root goes then, nor those of
// other domains.
func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, young, foreign := newAuthority(t, "old", nil), newAuthority(t, "young", nil), newAuthority(t, "foreign", nil)
		s := NewSource(old, SourceOptions{})
		defer s.Close()
		set := func(domain string, roots []*authority, lists ...*x509.RevocationList) {
			t.Helper()
			var certs []*x509.Certificate
			for _, a := range roots {
				certs = append(certs, a.cert)
			}
			if err := s.SetBundle(domain, certs, lists); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		conns := map[string]*guarded{
			"old": from(t, old, cart.String(), serial(7)), "old, again": from(t, old, till.String(), serial(8)),
			"young": from(t, young, cart.String(), serial(7)), "friend": from(t, foreign, friend, serial(7)),
		}
		expect := func(step string, ended map[string]Reason) {
			t.Helper()
			for name, c := range conns {
				check(t, step+": "+name, c.why, ended[name])
			}
		}
		set("cluster.local", []*authority{old, young})
		set("friend.example", []*authority{foreign})
		for _, c := range conns {
			s.Guard(c)
		}
		expect("nothing happened", nil)

		time.Sleep(2 * time.Hour) // all leaves have ended
		set("cluster.local", []*authority{young, old}, revoke(t, old, 1, 9))
		expect("expired, and somebody else was revoked", nil)
		set("cluster.local", []*authority{young, old}, revoke(t, old, 2, 9, 7))
		expect("one was revoked", map[string]Reason{"old": ReasonRevoked})
		conns["fresh"] = from(t, old, till.String(), serial(10))
		s.Guard(conns["fresh"])
		set("cluster.local", []*authority{young})
		expect("the old root is gone", map[string]Reason{"old": ReasonRevoked, "fresh": ReasonChain})
		late := from(t, old, cart.String(), nil)
		conns["late"] = late // was verified just before
		s.Guard(late)
		synctest.Wait()
		expect("guarded too late", map[string]Reason{"old": ReasonRevoked, "fresh": ReasonChain, "late": ReasonChain})
		set("friend.example", nil)
		expect("no friend", map[string]Reason{"old": ReasonRevoked, "fresh": ReasonChain, "late": ReasonChain, "friend": ReasonTrustDomain})
	})
}

// Who was guarded and has ended is forgotten, at once if somebody says so.
func TestGuardsAreForgotten(t *testing.T) {
	root := newAuthority(t, "root", nil)
	s := NewSource(root, SourceOptions{})
	defer s.Close()
	if err := s.SetBundle("cluster.local", []*x509.Certificate{root.cert}, nil); err != nil {
		t.Fatal(err)
	}
	c := from(t, root, cart.String(), nil)
	release := s.Guard(c)
	if n := len(s.guards.set); n != 1 {
		t.Errorf("%d connections are guarded, want 1", n)
	}
	release()
	release()
	if n := len(s.guards.set); n != 0 {
		t.Errorf("%d connections are guarded, want none", n)
	}
	for range 1000 {
		ended := &guarded{state: c.state, done: make(chan struct{})}
		close(ended.done)
		s.Guard(ended)
	}
	if n := len(s.guards.set); n > guardsKept {
		t.Errorf("%d connections that have ended are remembered", n)
	}
}
