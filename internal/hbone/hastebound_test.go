// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestHasteOfManyHoldsNobodyBack has streams, each likely to be hasty, write their first bytes one after the other: those of the first one wait for it, not for all.
func TestHasteOfManyHoldsNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		outer, end := join(t, x, y, Settings{}, Settings{})
		a, b := open(t, outer, end)
		client, server := join(t, NewTransport(a), NewTransport(b), Settings{}, Settings{})
		var near []*Stream
		first, far := open(t, client, server)
		for range 20 {
			s, _ := open(t, client, server)
			near = append(near, s)
		}
		synctest.Wait()
		client.wmu.Lock()
		client.haste.seen = surelyHasty
		client.wmu.Unlock()
		began := time.Now()
		took := make(chan time.Duration, 1)
		go func() {
			_, _ = far.Read(make([]byte, 1))
			took <- time.Since(began)
		}()
		for _, s := range append([]*Stream{first}, near...) {
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(hastyWithin / 2)
		}
		if d := <-took; d > 2*hastyWithin {
			t.Errorf("the first byte took %v", d)
		}
		_ = client.Close()
		_ = server.Close()
	})
}
