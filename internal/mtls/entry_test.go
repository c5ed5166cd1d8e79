// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestCertificateThatArrivesMeanwhile lets an attempt end just while others look whether it has: they see it before or after, and never
// take an attempt that ended well for one that failed.
func TestCertificateThatArrivesMeanwhile(t *testing.T) {
	cert := &Certificate{NotAfter: time.Now().Add(time.Hour)}
	hurried, cancel := context.WithCancel(t.Context())
	cancel()
	for range 60 {
		e := &entry{ctx: t.Context(), settled: make(chan struct{})}
		var wait sync.WaitGroup
		for range 2 {
			wait.Go(func() {
				for {
					switch got, err := e.get(hurried, time.Minute); {
					case got == cert:
						return
					case !errors.Is(err, context.Canceled):
						t.Errorf("got %v, %v", got, err)
						return
					}
				}
			})
		}
		for range 20 {
			runtime.Gosched()
		}
		e.settle(cert, nil, time.Now().Add(time.Hour))
		wait.Wait()
	}
}
