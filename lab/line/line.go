// SPDX-License-Identifier: Apache-2.0

// Package line is a long, narrow or lossy line between two devices, in user space: packets come out in the order in which they went in, each after its delay. It needs
// nothing of the kernel but TUN and TAP devices, so it works where there is no netem.
package line

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// mostPacket is the largest packet of a TUN device, and more than the largest frame of a TAP device whose MTU is usual, in bytes.
const mostPacket = 65535

// Shape is what a line does to packets on their one way through it.
type Shape struct {
	Delay  time.Duration // of every packet
	Jitter time.Duration // what is added to that is between 0 and this, at random
	Loss   float64       // share of packets that do not arrive, 0 to 1
	// Rate is how many bytes go through in a second; 0 is without bound.
	Rate float64
	// Backlog is how long a packet may wait for those before it if there is a Rate: those that would have to wait longer are lost.
	Backlog time.Duration
}

// Line is one direction. Make it with New.
type Line struct {
	shape atomic.Pointer[Shape]
	queue chan delayed
	// last is when the newest packet in the queue comes out, free when Rate lets the next one in. Both are owned by collect.
	last, free time.Time

	forwarded, lost, overflowed atomic.Uint64
}

type delayed struct {
	packet []byte
	due    time.Time
}

// New makes a line on which so many packets can be under way. More are lost, as in any router.
func New(shape Shape, packets int) *Line {
	l := &Line{queue: make(chan delayed, packets)}
	l.Set(shape)
	return l
}

// Set changes what becomes of packets that come in from now on. Any goroutine may call it.
func (l *Line) Set(shape Shape) { l.shape.Store(&shape) }

// Counts is what has become of packets: sent out, lost as the shape has it or because they were not carried or could not be sent, and lost because there were too many.
func (l *Line) Counts() (forwarded, lost, overflowed uint64) {
	return l.forwarded.Load(), l.lost.Load(), l.overflowed.Load()
}

// Carry takes packets from in to out, one for each call of Read and Write, until in ends or is closed, and all that was under way has come out. It drops what carried does
// not want; carried may be nil. It may be called once.
func (l *Line) Carry(in io.Reader, out io.Writer, carried func(packet []byte) bool) error {
	var releasing sync.WaitGroup
	releasing.Go(func() { l.release(out) })
	err := l.collect(in, carried)
	releasing.Wait()
	return err
}

func (l *Line) collect(in io.Reader, carried func([]byte) bool) error {
	defer close(l.queue)
	buffer := make([]byte, mostPacket)
	for {
		n, err := in.Read(buffer)
		if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read packet: %w", err)
		}
		shape := l.shape.Load()
		if carried != nil && !carried(buffer[:n]) || shape.Loss > 0 && rand.Float64() < shape.Loss {
			l.lost.Add(1)
			continue
		}
		due, ok := l.due(shape, n, time.Now())
		if !ok {
			l.overflowed.Add(1)
			continue
		}
		select {
		case l.queue <- delayed{packet: append([]byte(nil), buffer[:n]...), due: due}:
			l.last = due
		default:
			l.overflowed.Add(1)
		}
	}
}

// due is when a packet of so many bytes that comes in now is to come out, if it may come in at all.
func (l *Line) due(shape *Shape, bytes int, now time.Time) (due time.Time, ok bool) {
	due = now
	if shape.Rate > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		if l.free.Sub(now) > shape.Backlog {
			return due, false
		}
		l.free = l.free.Add(time.Duration(float64(bytes) / shape.Rate * float64(time.Second)))
		due = l.free
	}
	due = due.Add(shape.Delay)
	if shape.Jitter > 0 {
		due = due.Add(rand.N(shape.Jitter))
	}
	if due.Before(l.last) {
		due = l.last
	}
	return due, true
}

// release sends packets on when they are due, until collect has ended and the queue is empty. A packet that cannot be sent is lost, as on a link that is down.
func (l *Line) release(out io.Writer) {
	closed := false
	for next := range l.queue {
		if wait := time.Until(next.due); wait > 0 && !closed {
			time.Sleep(wait)
		}
		if _, err := out.Write(next.packet); err != nil {
			l.lost.Add(1)
			closed = errors.Is(err, os.ErrClosed) // and nobody needs to wait for the others
			continue
		}
		l.forwarded.Add(1)
	}
}
