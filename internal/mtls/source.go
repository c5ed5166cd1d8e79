// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Issuer signs certificate requests.
type Issuer interface {
	// Issue answers a certificate for id: the leaf first, then intermediates, and the root bundle as the last element,
	// which may hold several certificates. It is called from several goroutines at once. An error with a method Refused() bool that
	// gives true says that id is not to be had here; any other one says nothing of it.
	Issue(ctx context.Context, id mesh.Identity, csrPEM []byte) (chainPEM []string, err error)
}

// SourceOptions are the tunables of a Source; the zero value of each means the default that is named with it.
type SourceOptions struct {
	Log logr.Logger
	// IssueTimeout bounds one call of the issuer; 10 s, the connect timeout of the wire.
	IssueTimeout time.Duration
	// Parallel is how many calls of the issuer run at once, over all identities; 8, as ztunnel.
	Parallel int
	// BackoffMin and BackoffMax bound the pause after a failure, which doubles each time and is jittered by a
	// fifth; 1 s and 150 s, as ztunnel.
	BackoffMin, BackoffMax time.Duration
	// Patience is how long before its next attempt a failing identity still lets those who ask wait for it; otherwise they are
	// told the last failure at once. 2 s: a restart of the issuer is waited for, a lasting refusal is not.
	Patience time.Duration
	// Vault keeps certificates over a restart, or is nil.
	Vault *Vault
	// OnKept hears of each certificate that an earlier process had kept: nil if it is used until the issuer gives another, else why it is not.
	OnKept func(error)
}

func (o SourceOptions) withDefaults() SourceOptions {
	if o.IssueTimeout <= 0 {
		o.IssueTimeout = 10 * time.Second
	}
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	if o.BackoffMin <= 0 {
		o.BackoffMin = time.Second
	}
	if o.BackoffMax <= 0 {
		o.BackoffMax = 150 * time.Second
	}
	if o.Patience <= 0 {
		o.Patience = 2 * time.Second
	}
	return o
}

// Source holds certificates by identity and bundles by trust domain. All methods may be called from any goroutine.
type Source struct {
	issuer Issuer
	o      SourceOptions
	ctx    context.Context
	stop   context.CancelFunc
	slots  chan struct{} // one per issuer call in flight
	wait   sync.WaitGroup
	calls  atomic.Uint64 // numbers issuer calls in the order in which they began

	mu      sync.Mutex // hold for the fields below
	closed  bool
	entries map[mesh.Identity]*entry
	bundles map[string]domainBundle // by trust domain, from issuers
	told    map[string]*trust       // by trust domain, from SetBundle: they come first
	aliases map[string]string       // trust domain → the one that it is another name of
	guards  guards
}

// NewSource asks for nothing yet. Close it.
func NewSource(issuer Issuer, o SourceOptions) *Source {
	o = o.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	s := &Source{
		issuer:  issuer,
		o:       o,
		ctx:     ctx,
		stop:    stop,
		slots:   make(chan struct{}, o.Parallel),
		entries: map[mesh.Identity]*entry{},
		bundles: map[string]domainBundle{},
		told:    map[string]*trust{},
		aliases: map[string]string{},
	}
	if o.Vault != nil {
		s.wait.Go(s.tidy)
	}
	return s
}

// Close stops all renewals and waits for them. Certificate fails from then on; net.ErrClosed.
func (s *Source) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wait.Wait()
}

// Certificate gives a valid certificate for id, fetching it if there is none; ctx bounds the wait, not the fetch, which
// others may be waiting for too. A failure is an *IssueError.
func (s *Source) Certificate(ctx context.Context, id mesh.Identity) (*Certificate, error) {
	e, err := s.entry(id)
	if err != nil {
		return nil, &IssueError{Identity: id.String(), Err: err}
	}
	cert, err := e.get(ctx, s.o.Patience)
	if err != nil {
		return nil, &IssueError{Identity: id.String(), Err: err}
	}
	return cert, nil
}

// Prefetch begins to hold a certificate for id. Failures are logged and retried.
func (s *Source) Prefetch(id mesh.Identity) { _, _ = s.entry(id) }

// Drop forgets id's certificate and ends its renewal. Connections made with it go on; a later request fetches anew.
func (s *Source) Drop(id mesh.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil {
		delete(s.entries, id)
		e.cancel()
		s.o.Vault.remove(id)
	}
}

func (s *Source) entry(id mesh.Identity) (*entry, error) {
	if id.IsZero() {
		return nil, errors.New("no identity was given")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	e := s.entries[id]
	if e == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		e = &entry{id: id, ctx: ctx, cancel: cancel, settled: make(chan struct{})}
		s.entries[id] = e
		s.wait.Go(func() { s.keep(e) })
	}
	return e, nil
}

// keep fetches and renews until the entry's context ends.
func (s *Source) keep(e *entry) {
	defer e.cancel()
	log := s.o.Log.WithValues("identity", e.id.String())
	s.recall(e, log)
	for failures := 0; ; {
		cert, err := s.issue(e.ctx, e.id)
		if e.ctx.Err() != nil {
			e.settle(nil, net.ErrClosed, time.Time{})
			return
		}
		var pause time.Duration
		if err != nil {
			pause = s.backoff(failures)
			failures++
			log.Error(err, "certificate request failed", "attempt", failures, "retryIn", pause.String())
		} else {
			failures = 0
			pause = renewIn(time.Until(cert.NotAfter))
			s.remember(e, cert, log)
			log.V(1).Info("certificate issued", "notAfter", cert.NotAfter, "renewIn", pause.String())
		}
		e.settle(cert, err, time.Now().Add(pause))
		select {
		case <-e.ctx.Done():
		case <-time.After(pause):
		}
		if e.ctx.Err() != nil {
			e.settle(nil, net.ErrClosed, time.Time{})
			return
		}
		e.unsettle()
	}
}

// issue makes one call of the issuer, and believes its roots from then on.
func (s *Source) issue(ctx context.Context, id mesh.Identity) (*Certificate, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.IssueTimeout)
	defer cancel()
	key, csr, err := newRequest(id)
	if err != nil {
		return nil, err
	}
	call := s.calls.Add(1)
	chain, err := s.issuer.Issue(ctx, id, csr)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	cert, err := newCertificate(id, key, chain)
	if err != nil {
		return nil, fmt.Errorf("issuer's answer: %w", err)
	}
	s.mu.Lock()
	before := s.trustOf(id.TrustDomain)
	if call > s.bundles[id.TrustDomain].call {
		s.bundles[id.TrustDomain] = domainBundle{&trust{roots: cert.bundle}, call}
	}
	s.changed(id.TrustDomain, before)
	s.mu.Unlock()
	return cert, nil
}

// backoff is the pause after the given number of earlier failures in a row.
func (s *Source) backoff(failures int) time.Duration {
	pause := s.o.BackoffMax
	if failures < 16 { // beyond, the shift exceeds any sane BackoffMax
		pause = min(pause, s.o.BackoffMin<<failures)
	}
	return jitter(pause, 0.2)
}

// renewIn is how long to use a certificate before it is renewed: half of what is left of it, jittered by a tenth so that a
// restarted node does not renew all of its certificates at once for ever.
func renewIn(left time.Duration) time.Duration {
	return max(jitter(left/2, 0.1), time.Second)
}

// jitter moves d by up to the fraction part of it, either way.
func jitter(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*rand.Float64()-1)))
}
