// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"sync"
	"time"
)

// deadline is one direction's deadline of a stream. Guarded by the lock that is passed to set.
type deadline struct {
	expired bool
	timer   *time.Timer
	round   uint32 // counts calls of set, so that a timer that lost the race with one does nothing
}

// set arms the deadline; the zero time disarms it. wake is called under the lock when it has passed. mu must be held.
func (d *deadline) set(t time.Time, mu sync.Locker, wake func()) {
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.expired = true
		wake()
		return
	}
	round := d.round
	d.timer = time.AfterFunc(left, func() {
		mu.Lock()
		defer mu.Unlock()
		if d.round == round {
			d.expired = true
			wake()
		}
	})
}

// stop disarms the deadline and leaves expired as it is. The lock must be held.
func (d *deadline) stop() {
	d.round++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
