// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"time"

	"golang.org/x/net/http2"
)

// drainStage is how far a drain from our side went. A server first announces it, learns by a PING that the announcement arrived, and only then says
// which stream was the last one, so that no CONNECT under way is lost (RFC 9113 §6.8).
type drainStage uint8

const (
	drainNone      drainStage = iota
	drainAnnounced            // server: GOAWAY with the highest id and a PING are out; streams are still taken
	drainSaid                 // GOAWAY with the last id is out
)

// Drain ends the connection without hurting its streams: it tells the peer by GOAWAY, takes and opens no new streams, and closes the connection when
// the last one has ended. It does not wait.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.drain != drainNone {
		return
	}
	c.wmu.Lock()
	if c.client {
		c.left = true
		c.drain = drainSaid
		c.encode(func(f *http2.Framer) error { return f.WriteGoAway(0, http2.ErrCodeNo, nil) })
	} else {
		c.drain = drainAnnounced
		c.encode(func(f *http2.Framer) error {
			if err := f.WriteGoAway(maxWindow, http2.ErrCodeNo, nil); err != nil {
				return err
			}
			return f.WritePing(false, pingDrain)
		})
		// A peer that answers other PINGs but not this one does not hold us.
		c.drainLimit = time.AfterFunc(c.set.PingTimeout, func() { c.sayLast() })
	}
	c.pass()
	c.wmu.Unlock()
	c.endIfDrained()
}

// sayLast is the second step of a server's drain: the peer knows, and what it opened before that has arrived.
// It says whether the peer was asked.
func (c *Conn) sayLast() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drain != drainAnnounced || c.err != nil {
		return false
	}
	c.drain = drainSaid
	c.stopDrainLimit()
	c.lastTaken = c.opened
	if c.judging {
		c.lastTaken = max(c.opened, 2) - 2 // enroll will not have it. If it was refused long ago, nobody misses it either
	}
	c.wmu.Lock()
	c.encode(func(f *http2.Framer) error { return f.WriteGoAway(c.lastTaken, http2.ErrCodeNo, nil) })
	c.pass()
	c.wmu.Unlock()
	c.endIfDrained()
	return true
}

// endIfDrained closes the connection when it is draining and its last stream has ended. mu must be held.
func (c *Conn) endIfDrained() {
	over := c.drain == drainSaid || c.client && c.left
	if !over || len(c.streams) > 0 || c.err != nil {
		return
	}
	// fail needs mu itself.
	c.err = &ConnError{Code: uint32(http2.ErrCodeNo), Reason: reasonDrained}
	c.stopDrainLimit()
	c.ping.stop()
	c.stopIdle()
	c.hurry(c.set.PingTimeout) // the last streams have ended here, but their bytes may still be on their way
	c.wmu.Lock()
	c.closing = true
	c.pass()
	c.wmu.Unlock()
}

// stopDrainLimit stops the timer of a drain that needs it no more. mu must be held.
func (c *Conn) stopDrainLimit() {
	if c.drainLimit != nil {
		c.drainLimit.Stop()
	}
}

// Shutdown drains the connection and waits until it has ended. If ctx ends first, the remaining streams are cut and ctx's error is returned.
func (c *Conn) Shutdown(ctx context.Context) error {
	c.Drain()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		_ = c.Close() // always nil
		return ctx.Err()
	}
}
