// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffDoublesToItsBound(t *testing.T) {
	var b backoff
	want := firstBackoff
	for range 20 {
		got := b.next()
		if got < want*8/10 || got > want*12/10 {
			t.Errorf("pause is %s, want %s ± 20 %%", got, want)
		}
		want = min(2*want, lastBackoff)
	}
	b.reset()
	if got := b.next(); got > firstBackoff*12/10 {
		t.Errorf("after reset the pause is %s", got)
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := pause(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("pause gave %v after %s", err, time.Since(begin))
		}
		if err := pause(t.Context(), time.Minute); err != nil || time.Since(begin) != time.Second+time.Minute {
			t.Errorf("pause gave %v after %s", err, time.Since(begin))
		}
	})
}
