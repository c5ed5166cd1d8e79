// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"math/rand/v2"
	"time"

	grpcbackoff "google.golang.org/grpc/backoff"
)

// connectBackoff is gRPC's own pause between connects of one connection, with the same bounds as ours.
var connectBackoff = grpcbackoff.Config{BaseDelay: firstBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: lastBackoff}

// backoff is the pause between attempts. The zero value begins at firstBackoff.
type backoff struct{ last time.Duration }

// next gives the pause before the next attempt: twice the one before, ±20 %, so that clients that lost one server do
// not come back in step.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, firstBackoff), lastBackoff)
	return time.Duration(float64(b.last) * (0.8 + 0.4*rand.Float64()))
}

// reset makes the next pause the first one again.
func (b *backoff) reset() { b.last = 0 }

// pause waits, or returns the error of ctx if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
