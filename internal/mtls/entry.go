// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// entry is one identity's certificate. Its goroutine (Source.keep) writes it, everybody reads it.
type entry struct {
	id     mesh.Identity
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // hold for the fields below
	cert    *Certificate
	err     error         // of the last attempt
	next    time.Time     // when the next attempt begins, once settled
	settled chan struct{} // closed while no attempt is under way
}

// get gives the certificate if it is valid, or waits for the attempt under way or close at hand.
func (e *entry) get(ctx context.Context, patience time.Duration) (*Certificate, error) {
	for attempts := 0; ; {
		e.mu.Lock()
		cert, err, next, settled := e.cert, e.err, e.next, e.settled
		idle := isClosed(settled) // asked here, so that it belongs to the rest: an attempt may end at any time
		e.mu.Unlock()
		if cert != nil && time.Now().Before(cert.NotAfter) {
			return cert, nil
		}
		var begins <-chan time.Time
		if idle {
			if err == nil {
				err = fmt.Errorf("expired at %s", cert.NotAfter.Format(time.RFC3339))
			}
			until := time.Until(next)
			if attempts > 0 || until > patience {
				return nil, err
			}
			settled = nil
			begins = time.After(max(until, time.Millisecond)) // then look again: unsettle comes at next
		} else {
			attempts++
		}
		select {
		case <-settled:
		case <-begins:
		case <-e.ctx.Done():
			return nil, net.ErrClosed
		case <-ctx.Done():
			if err != nil {
				return nil, fmt.Errorf("%w, after: %w", context.Cause(ctx), err)
			}
			return nil, fmt.Errorf("waiting for the issuer: %w", context.Cause(ctx))
		}
	}
}

// settle ends an attempt. A failure keeps the certificate that there is.
func (e *entry) settle(cert *Certificate, err error, next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cert != nil {
		e.cert = cert
	}
	e.err, e.next = err, next
	if !isClosed(e.settled) {
		close(e.settled)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// unsettle begins the next attempt.
func (e *entry) unsettle() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settled = make(chan struct{})
}
