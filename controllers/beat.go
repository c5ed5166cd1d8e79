// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// beat is when clusters that change all the time are read, and what they said is told: with ten clusters changing ten times a second, a tenth of the messages to each proxy,
// and two thirds of the processor time of reading (1.30 % of a core for each cluster without it, 0.91 with it: discovery-remote-cpu). A change in one of them is told within
// 120 ms, less than half of the 250 that it may take. Ten clusters are read within some 10 ms of a tick.
var beat = world.Beat{Every: 100 * time.Millisecond, Settle: 20 * time.Millisecond}

const (
	// promptly and promptBurst are how often a cluster is read as soon as it says something, in readings a second and at once: a cluster that is quiet is heard at once.
	promptly    = 0.5
	promptBurst = 10
	// beatOpen is how long what comes behind what was just read is read at once, too: the slice behind its pod.
	beatOpen = 5 * time.Millisecond
	// lineBegins is how long a new connection is read at once: handshakes and first questions, several round trips, do not wait for ticks.
	lineBegins = 5 * time.Second
)

// pacer says when connections are read, and wakes all that wait for a tick together.
type pacer struct {
	mu   sync.Mutex
	tick chan struct{} // closed at the next one; nil while nobody waits
}

// next is closed at the next tick.
func (p *pacer) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tick == nil {
		tick := make(chan struct{})
		p.tick = tick
		time.AfterFunc(beat.UntilTick(time.Now()), func() {
			p.mu.Lock()
			p.tick = nil
			p.mu.Unlock()
			close(tick)
		})
	}
	return p.tick
}

// pace is that of one cluster's connections.
type pace struct {
	pacer  *pacer
	calm   atomic.Bool // everything was read once: what comes now are changes
	prompt *rate.Limiter
	budget *budget
}

func newPace(p *pacer, b *budget) *pace {
	return &pace{pacer: p, prompt: rate.NewLimiter(promptly, promptBurst), budget: b}
}

// pacedConn is a connection that is read at its pace. What is not read yet waits in the kernel, and beyond that in the API server. It has one reader.
type pacedConn struct {
	net.Conn
	pace *pace
	open time.Time // until when it is read at once
}

func newPacedConn(c net.Conn, p *pace) *pacedConn {
	return &pacedConn{Conn: c, pace: p, open: time.Now().Add(lineBegins)}
}

// Read implements net.Conn. It gives what came at the next tick.
func (c *pacedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if wait := c.pace.budget.beside.add(n, time.Now()); wait > 0 {
		time.Sleep(wait) // as long as so much more takes, which is short: whoever closes the connection is not waited for
	}
	if n == 0 || !c.pace.calm.Load() {
		return n, err
	}
	now := time.Now()
	if now.Before(c.open) {
		if n == len(b) { // there may be more: a list, which is not to wait for ticks
			if more := now.Add(beatOpen); more.After(c.open) {
				c.open = more
			}
		}
		return n, err
	}
	if !c.pace.prompt.AllowN(now, 1) {
		<-c.pace.pacer.next()
		now = time.Now()
	}
	c.open = now.Add(beatOpen)
	return n, err
}
