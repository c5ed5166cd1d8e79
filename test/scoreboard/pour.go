// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"slices"
	"sync"
	"time"
)

// portPour is where an application notes what it hears of each connection, for "hear".
const portPour = "8083"

// hearing is what an application hears at portPour.
var hearing struct {
	mu    sync.Mutex
	heard []*heard
}

// heard is what came of one connection since the last "hear".
type heard struct {
	Bytes int
	// Starved is the longest time for which nothing came of this connection, before its end, while something still came of another one.
	Starved time.Duration

	last time.Time // when something came
	over bool      // nothing will
}

// listenToPour counts what comes until the connection ends, in whichever way.
func listenToPour(c *net.TCPConn) {
	one := &heard{last: time.Now()}
	hearing.mu.Lock()
	hearing.heard = append(hearing.heard, one)
	hearing.mu.Unlock()
	b := make([]byte, block)
	for {
		n, err := c.Read(b)
		now := time.Now()
		hearing.mu.Lock()
		if n > 0 {
			one.note(n, now)
		}
		if err != nil {
			one.end()
		}
		hearing.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// note notes what came. It is called with the lock held, as the others are.
func (h *heard) note(n int, now time.Time) {
	h.hunger()
	h.Bytes += n
	h.last = now
}

// hunger notes for how long others were served while h was not.
func (h *heard) hunger() {
	for _, other := range hearing.heard {
		h.Starved = max(h.Starved, other.last.Sub(h.last))
	}
}

// end notes that nothing more will come: whatever others still get, which is under way when all are ended at once, is not missed.
func (h *heard) end() {
	h.hunger()
	h.over = true
}

// appHear tells what was heard of each connection since it was last asked. Of those that are over it is the last word.
func appHear(appOrder) (appFound, error) {
	hearing.mu.Lock()
	defer hearing.mu.Unlock()
	var found appFound
	for _, h := range hearing.heard {
		if !h.over {
			h.hunger() // it may starve still
		}
		found.Heard = append(found.Heard, *h)
	}
	hearing.heard = slices.DeleteFunc(hearing.heard, func(h *heard) bool { return h.over })
	for _, h := range hearing.heard {
		h.Bytes, h.Starved, h.last = 0, 0, time.Now()
	}
	return found, nil
}

// appPour sends as much as it can on some connections, for a time, and then resets them.
func appPour(o appOrder) (appFound, error) {
	all, err := dialAll(o.Connections, o.To)
	if err != nil {
		return appFound{}, err
	}
	began := time.Now()
	deadline := began.Add(o.For)
	work := make([]func() error, len(all))
	for i, c := range all {
		work[i] = func() error {
			defer c.Close()
			if err := c.SetWriteDeadline(deadline); err != nil {
				return err
			}
			b := make([]byte, block)
			for {
				if _, err := c.Write(b); err != nil {
					if time.Now().Before(deadline) {
						return err
					}
					return c.SetLinger(0)
				}
			}
		}
	}
	err = together(work...)
	return appFound{Wall: time.Since(began)}, err
}
