// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestHaste has streams end right behind their first bytes until that is expected, and then one that does not: its bytes come all the same, at once if it reads,
// within twice hastyWithin if it does nothing at all.
func TestHaste(t *testing.T) {
	for name, then := range map[string]func(s *Stream){
		"reads":        func(s *Stream) { go func() { _, _ = s.Read(make([]byte, 1)) }() },
		"does nothing": func(*Stream) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, y := net.Pipe()
				outer, end := join(t, x, y, Settings{}, Settings{})
				a, b := open(t, outer, end)
				client, server := join(t, NewTransport(a), NewTransport(b), Settings{}, Settings{})
				for range surelyHasty {
					near, far := open(t, client, server)
					if _, err := near.Write([]byte("x")); err != nil {
						t.Fatal(err)
					}
					_ = near.CloseWrite()
					if b, err := io.ReadAll(far); err != nil || string(b) != "x" {
						t.Fatalf("got %q, %v", b, err)
					}
					_ = far.Close()
					_ = near.Close()
				}
				near, far := open(t, client, server)
				began := time.Now()
				if _, err := near.Write([]byte("y")); err != nil {
					t.Fatal(err)
				}
				client.wmu.Lock()
				held := client.pending()
				client.wmu.Unlock()
				if held == 0 {
					t.Error("nothing was held back for a ninth stream that may be as hasty as eight before it")
				}
				then(near)
				got := make([]byte, 2)
				n, err := far.Read(got)
				if took := time.Since(began); err != nil || n != 1 || took > 2*hastyWithin {
					t.Errorf("got %d bytes, %v, after %v", n, err, took)
				}
				near.Close()
				far.Close()
			})
		})
	}
}
