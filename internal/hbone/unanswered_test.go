// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoLivesAndDoesNotAnswer: one who gives up in time learns whether the peer is there.
func TestWhoLivesAndDoesNotAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		dead  bool // nothing of the peer arrives
		waits time.Duration
		lives bool
	}{
		"it lives":          {waits: 3 * time.Second, lives: true},
		"for long":          {waits: 30 * time.Second, lives: true},
		"just looked after": {waits: 4*time.Second + 500*time.Millisecond, lives: true},
		"for a moment":      {waits: 500 * time.Millisecond, lives: true},
		"it is dead":        {dead: true, waits: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				c, err := NewClient(a, Settings{PingInterval: -1})
				if err != nil {
					t.Fatal(err)
				}
				var s *Conn
				if !tc.dead {
					s = NewServer(b, Settings{PingInterval: -1})
				} else {
					go func() { _, _ = io.Copy(io.Discard, b) }()
				}
				time.Sleep(time.Second) // both have greeted
				ctx, cancel := context.WithTimeout(t.Context(), tc.waits)
				defer cancel()
				_, _, err = c.Open(ctx, "cart:80", nil)
				if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnanswered) != tc.lives {
					t.Errorf("%v", err)
				}
				_ = c.Close()
				if s != nil {
					_ = s.Close()
				}
				_ = b.Close()
			})
		})
	}
}
