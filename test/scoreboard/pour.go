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
	// Starved is the longest time for which nothing came of this connection while something still came of another one.
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
		one.over = err != nil
		hearing.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// note is called with the lock held.
func (h *heard) note(n int, now time.Time) {
	for _, other := range hearing.heard {
		if other != h {
			h.Starved = max(h.Starved, other.last.Sub(h.last))
		}
	}
	h.Bytes += n
	h.last = now
}

// appHear tells what was heard of each connection since it was last asked. Of those that are over it is the last word.
func appHear(appOrder) (appFound, error) {
	hearing.mu.Lock()
	defer hearing.mu.Unlock()
	var found appFound
	for _, h := range hearing.heard {
		for _, other := range hearing.heard { // it may starve still
			h.Starved = max(h.Starved, other.last.Sub(h.last))
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
