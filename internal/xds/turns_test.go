// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestTurns says who gets a turn beside whom.
func TestTurns(t *testing.T) {
	proxy := func(node int) turnOwner {
		return turnOwner{namespace: "system", account: "nodeproxy", node: fmt.Sprint("node-", node)}
	}
	on := func(node int, account string) turnOwner {
		return turnOwner{namespace: "shop", account: account, node: fmt.Sprint("node-", node)}
	}
	thief := turnOwner{namespace: "shop", account: "thief"}
	pod := func(uid string) turnOwner {
		return Caller{Namespace: "shop", ServiceAccount: "gateway", PodUID: uid}.owner()
	}
	for _, tc := range []struct {
		name    string
		doubted []turnOwner
		asks    []turnOwner
		granted string // by who asked, in order
	}{
		{"as many as there are", nil, []turnOwner{proxy(1), proxy(2), proxy(3), proxy(4), proxy(5), proxy(6), proxy(7), proxy(8), proxy(9)}, "11111111-"},
		{"one caller has a quarter", nil, []turnOwner{proxy(1), proxy(1), proxy(1), proxy(2)}, "11-1"},
		{"without a node, too", nil, []turnOwner{thief, thief, thief, proxy(2)}, "11-1"},
		{"without a node, each pod", nil, []turnOwner{pod("1"), pod("1"), pod("1"), pod("2"), pod("3")}, "11-11"},
		{"without a node, each pod is doubted for itself", []turnOwner{pod("1")}, []turnOwner{pod("1"), pod("1"), pod("2"), pod("2")}, "1-11"},
		{"one node has half", nil, []turnOwner{on(1, "a"), on(1, "b"), on(1, "c"), on(1, "d"), on(1, "e"), proxy(2)}, "1111-1"},
		{"who is doubted has one", []turnOwner{on(1, "a")}, []turnOwner{on(1, "a"), on(1, "a"), proxy(1)}, "1-1"},
		{"all who are doubted have half", []turnOwner{on(1, "a"), on(2, "a"), on(3, "a"), on(4, "a"), on(5, "a")},
			[]turnOwner{on(1, "a"), on(2, "a"), on(3, "a"), on(4, "a"), on(5, "a"), proxy(5)}, "1111-1"},
	} {
		s := newTurns(8)
		for _, who := range tc.doubted {
			s.doubt(who)
		}
		got := ""
		for _, who := range tc.asks {
			select {
			case <-s.ask(who).granted:
				got += "1"
			default:
				got += "-"
			}
		}
		if got != tc.granted {
			t.Errorf("%s: granted %s, want %s", tc.name, got, tc.granted)
		}
	}
}

// TestTurnsPassOn: in the order of asking, to who may have them; doubt ends with an acknowledgement, and with time.
func TestTurnsPassOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTurns(1)
		who := func(i int) turnOwner { return turnOwner{namespace: "n", account: "a", node: fmt.Sprint(i)} }
		has := func(x *turn) bool {
			select {
			case <-x.granted:
				return true
			default:
				return false
			}
		}
		first, second, third := s.ask(who(1)), s.ask(who(2)), s.ask(who(3))
		if !has(first) || has(second) || !s.wanted(first, false) {
			t.Error("the first has it, and others want it")
		}
		s.end(second)
		s.end(first)
		if !has(third) || has(second) || s.wanted(third, false) {
			t.Error("the third has it, as the second went away, and nobody else wants it")
		}
		s.end(third)
		s = newTurns(4)
		s.doubt(who(1))
		one, two := s.ask(who(1)), s.ask(who(1))
		if !has(one) || has(two) || s.wanted(one, false) {
			t.Error("one in doubt has one turn, and does not want it of itself")
		}
		s.end(one)
		s.end(two)
		time.Sleep(doubtFor)
		s = newTurns(8)
		if first, second := s.ask(who(1)), s.ask(who(1)); !has(first) || !has(second) {
			t.Error("doubt does not end")
		}
		s.doubt(who(2))
		s.trust(who(2))
		if first, second := s.ask(who(2)), s.ask(who(2)); !has(first) || !has(second) {
			t.Error("an acknowledgement does not end doubt")
		}
	})
}

// TestWhoseTurnIsWanted: somebody who waits has the turn of one that does not take what it is sent, and that of one in doubt unless it is in doubt itself.
func TestWhoseTurnIsWanted(t *testing.T) {
	who := func(i int) turnOwner { return turnOwner{namespace: "n", account: "a", node: fmt.Sprint(i)} }
	for _, tc := range []struct {
		name                   string
		holder, waiter, moving bool // the first two: in doubt
		want                   bool
	}{
		{name: "it stands still", want: true},
		{name: "it goes on", moving: true},
		{name: "in doubt, it goes on", holder: true, moving: true, want: true},
		{name: "both are in doubt", holder: true, waiter: true},
		{name: "only who waits is in doubt", waiter: true, want: true},
		{name: "only who waits is in doubt, and it goes on", waiter: true, moving: true},
	} {
		s := newTurns(1)
		if tc.holder {
			s.doubt(who(1))
		}
		if tc.waiter {
			s.doubt(who(2))
		}
		held := s.ask(who(1))
		s.ask(who(2))
		if got := s.wanted(held, tc.moving); got != tc.want {
			t.Errorf("%s: wanted is %v", tc.name, got)
		}
	}
}

// TestHonestSlowPeersAreServed: who read all of it, and takes longer to make use of it than others like to wait, is not begun with anew.
func TestHonestSlowPeersAreServed(t *testing.T) {
	const peers = 6
	s := ready(t, ServerOptions{AckTimeout: time.Minute, TurnTimeout: 40 * time.Millisecond, Authenticate: callersByToken})
	s.large, s.largeFrom = newTurns(4), 2
	server := start(t, "", s)
	many := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for i := range 50 {
		w := pod(fmt.Sprintf("%05d", i), "", "")
		many.Workloads[w.UID] = w
	}
	server.Update(many)
	var slow sync.WaitGroup
	for i := range peers {
		c := dialScript(t, server.addr, fmt.Sprintf("proxy@node-%d", i))
		slow.Go(func() {
			if err := c.stream.Send(wildcard(addressURL)); err != nil {
				t.Errorf("peer %d: %v", i, err)
				return
			}
			select {
			case r := <-c.got:
				select {
				case err := <-c.ended:
					t.Errorf("peer %d was cut: %v", i, err)
				case <-time.After(300 * time.Millisecond): // what it takes to make use of it
					if err := c.stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
						t.Errorf("peer %d: %v", i, err)
					}
				}
			case err := <-c.ended:
				t.Errorf("peer %d was cut: %v", i, err)
			}
		})
	}
	slow.Wait()
	eventually(t, "all have acknowledged", func() bool { return s.large.taken() == 0 })
	if n := counter(s.metrics.abandoned.WithLabelValues("Address")); n != 0 {
		t.Errorf("%v streams were cut", n)
	}
}

// callersByToken takes the token "account@node" for what it says.
func callersByToken(ctx context.Context) (Caller, error) {
	token, _, err := Credentials(ctx)
	account, node, _ := strings.Cut(token, "@")
	return Caller{Namespace: "n", ServiceAccount: account, Node: node}, err
}

// TestPeersThatNeverReadDelayNobodyElse: one that opens many streams takes its own share of the turns; and many that take all of them have them for a
// moment only, and not again.
func TestPeersThatNeverReadDelayNobodyElse(t *testing.T) {
	for _, tc := range []struct {
		name    string
		deaf    []string // tokens
		timeout time.Duration
	}{
		{"one with many streams", []string{"thief@node-1", "thief@node-1", "thief@node-1", "thief@node-1", "thief@node-1", "thief@node-1", "thief@node-1", "thief@node-1"}, time.Hour},
		{"many accounts of one node", []string{"a@node-1", "b@node-1", "c@node-1", "d@node-1", "e@node-1", "f@node-1"}, time.Hour},
		{"many of many nodes", []string{"a@node-1", "b@node-2", "c@node-3", "d@node-4", "e@node-5", "f@node-6"}, 200 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := ready(t, ServerOptions{AckTimeout: time.Hour, TurnTimeout: tc.timeout, Authenticate: callersByToken})
			s.large, s.largeFrom = newTurns(4), 2
			server := start(t, "", s)
			many := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
			for i := range 5000 {
				w := pod(fmt.Sprintf("%0200d", i), "", "") // 2 MB in all, many times what is buffered on the way
				many.Workloads[w.UID] = w
			}
			server.Update(many)
			take := func() {
				for _, token := range tc.deaf {
					deaf, conn := dialDeaf(t, server.addr, token)
					t.Cleanup(func() { _ = conn.Close() })
					if err := deaf.Send(wildcard(addressURL)); err != nil {
						t.Fatal(err)
					}
				}
				eventually(t, "they have what they get", func() bool {
					s.large.mu.Lock()
					defer s.large.mu.Unlock()
					return len(s.large.held)+len(s.large.waiting)+len(s.large.doubted) >= len(tc.deaf)
				})
			}
			for _, node := range []string{"node-8", "node-9"} {
				take()
				c := dialScript(t, server.addr, "proxy@"+node)
				c.say(wildcard(addressURL))
				r := c.hear()
				if n := len(r.GetResources()); n != 5000 {
					t.Errorf("%d resources", n)
				}
				c.ack(r)
			}
		})
	}
}
