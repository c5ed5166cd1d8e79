// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// TestPoolMeetsHostileServer has a pool ask servers that take connections and carry no streams. However often it is asked, it must not dial without
// end: a handshake costs more than what was asked for.
func TestPoolMeetsHostileServer(t *testing.T) {
	const (
		askers   = 10
		asksEach = 20
	)
	enemy := startEnemy(t)
	for _, attack := range []string{
		"goaway-at-once",
		"goaway-before-settings",
		"no-streams-allowed",
		"resets-instead-of-answers",
		"table-above-limit", // every answer ends its connection
	} {
		t.Run(attack, func(t *testing.T) {
			address := report(t)(enemy.Begin(hostile.Order{By: hostile.Server, Attack: attack})).Address
			pool := NewPool(func(ctx context.Context, address string) (*Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
				if err != nil {
					return nil, err
				}
				secure := tls.Client(under(nc), hostile.TLS())
				if err := secure.HandshakeContext(ctx); err != nil {
					_ = nc.Close()
					return nil, err
				}
				return NewClient(secure, Settings{})
			}, PoolSettings{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var all sync.WaitGroup
			for range askers {
				all.Go(func() {
					for range asksEach {
						if st, _, err := pool.Open(ctx, address, hostile.Echo, nil); err == nil {
							t.Error("a stream was opened")
							_ = st.Close()
						}
					}
				})
			}
			all.Wait()
			pool.Close()
			dialled := report(t)(enemy.End()).Connections
			t.Logf("%d connections for %d streams", dialled, askers*asksEach)
			// In a second there is time for the first few dials at once, and for some at the longest backoff.
			if dialled > 4*maxAttempts {
				t.Errorf("%d connections were made for %d streams", dialled, askers*asksEach)
			}
		})
	}
}
