// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// freshFor is how long an answer counts without another question. What the name's own servers say of that is not told by net.Resolver; load balancers say 60 s.
	freshFor = 5 * time.Second
	// staleFor is how long it is used if there is no newer one: names must not be the reason why what is there cannot be reached.
	staleFor = 5 * time.Minute
	// refreshWait is for how long after a question an answer of before is not used: in that time one comes, unless something is wrong.
	refreshWait = 200 * time.Millisecond
	// lookupTimeout bounds a question, in which Go's resolver asks each server twice for 5 s.
	lookupTimeout = 10 * time.Second
	// maxNames bounds how many names are remembered.
	maxNames = 1024
)

// lookups is a Resolver that remembers. Gateways are known by name where load balancers are, and a connection in tunnels that are there shall not cost questions: with the search domains of a pod
// these are ten.
type lookups struct {
	next   Resolver
	asking func()          // hears of each question
	within context.Context // ends questions
	work   *sync.WaitGroup // of questions

	mu    sync.Mutex // hold for names, and for the fields of each
	names map[string]*lookup
}

// lookup is what is known of a name.
type lookup struct {
	addrs    []netip.Addr
	at       time.Time // when they were known; zero: never
	question *question // nil: nobody asks
}

// question is one that is under way. What came of it is valid once done is closed.
type question struct {
	done  chan struct{}
	began time.Time
	addrs []netip.Addr
	err   error
}

// LookupNetIP implements Resolver. All who want a name at a time share one question.
func (l *lookups) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	l.mu.Lock()
	n := l.names[host]
	if n == nil {
		l.makeRoom()
		n = &lookup{}
		l.names[host] = n
	}
	known, age, old := !n.at.IsZero(), time.Since(n.at), slices.Clone(n.addrs)
	if known && age < freshFor {
		l.mu.Unlock()
		return old, nil
	}
	q := l.ask(n, network, host)
	l.mu.Unlock()
	var waited <-chan time.Time
	usable := known && age < staleFor
	if usable {
		timer := time.NewTimer(refreshWait - time.Since(q.began))
		defer timer.Stop()
		waited = timer.C
	}
	select {
	case <-q.done:
		missing, ok := errors.AsType[*net.DNSError](q.err)
		switch {
		case q.err == nil:
			return slices.Clone(q.addrs), nil
		case usable && (!ok || !missing.IsNotFound):
			return old, nil
		}
		return nil, q.err
	case <-waited:
		return old, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ask joins a question, or begins one. mu must be held.
func (l *lookups) ask(n *lookup, network, host string) *question {
	if n.question != nil {
		return n.question
	}
	q := &question{done: make(chan struct{}), began: time.Now()}
	n.question = q
	l.asking()
	l.work.Go(func() {
		ctx, cancel := context.WithTimeout(l.within, lookupTimeout)
		defer cancel()
		q.addrs, q.err = l.next.LookupNetIP(ctx, network, host)
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.question = nil; q.err == nil {
			n.addrs, n.at = q.addrs, time.Now()
		}
		close(q.done)
	})
	return q
}

// makeRoom forgets what is of no more use if there is much, and something else if that is not enough. mu must be held.
func (l *lookups) makeRoom() {
	if len(l.names) < maxNames {
		return
	}
	for host, n := range l.names {
		if n.question == nil && time.Since(n.at) >= staleFor {
			delete(l.names, host)
		}
	}
	for host := range l.names {
		if len(l.names) < maxNames {
			return
		}
		delete(l.names, host)
	}
}
