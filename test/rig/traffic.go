// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// trafficPatience is how long anything in a connection may take. Longer is as good as lost; the machine may be busy.
	trafficPatience = 30 * time.Second
	// trafficPause is about how long a stream is silent between two messages.
	trafficPause = time.Second
	// maxVisits bounds the visits at once.
	maxVisits = 500
	// maxFaults is how many faults are kept in words.
	maxFaults = 20
)

// Traffic is connections between two pods that are held and made all the time: streams that live through several generations of whatever is between, and
// visits that are over at once. Every byte of both is looked at.
type Traffic struct {
	client  *Pod
	address string
	streams int
	every   time.Duration // one visit

	generation atomic.Int64
	open       atomic.Int64
	running    sync.WaitGroup // of the client
	serving    sync.WaitGroup
	listener   net.Listener
	stop       context.CancelFunc

	mu     sync.Mutex
	counts TrafficCounts
	faults []error
}

// TrafficCounts is what has become of connections.
type TrafficCounts struct {
	Streams, Visits int // that ended in order
	// Refused could not be made, Lost ended otherwise than they should have.
	Refused, Lost int
}

// TrafficPort is where the server of traffic listens.
const TrafficPort = 8090

// StartTraffic keeps a number of streams open, and makes so many visits a second, until Stop. The client finds the server at an address, its own or a service's.
func StartTraffic(ctx context.Context, client, server *Pod, at netip.Addr, streams int, visitsPerSecond float64) (*Traffic, error) {
	l, err := server.Listen(ctx, "tcp", fmt.Sprintf("0.0.0.0:%d", TrafficPort))
	if err != nil {
		return nil, err
	}
	t := &Traffic{
		client: client, address: netip.AddrPortFrom(at, TrafficPort).String(), streams: streams,
		every: time.Duration(float64(time.Second) / visitsPerSecond), listener: l,
	}
	ctx, t.stop = context.WithCancel(ctx)
	t.serving.Go(t.serve)
	for range streams {
		t.running.Go(func() {
			for ctx.Err() == nil {
				t.ended(t.stream(ctx))
			}
		})
	}
	t.running.Go(func() { t.visits(ctx) })
	return t, nil
}

// Open is how many streams there are at the moment.
func (t *Traffic) Open() int { return int(t.open.Load()) }

// Next begins another generation: streams that have seen two begin end in order, and others take their place.
func (t *Traffic) Next() { t.generation.Add(1) }

// Counts is what has become of connections so far.
func (t *Traffic) Counts() TrafficCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

// Stop ends all connections in order, and tells what has become of all and, in words, of those that did not end so.
func (t *Traffic) Stop() (TrafficCounts, error) {
	t.stop()
	t.running.Wait()
	t.listener.Close() // not earlier: what waits to be accepted would be reset
	t.serving.Wait()
	return t.counts, errors.Join(t.faults...)
}

func (t *Traffic) serve() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			return
		}
		t.serving.Go(func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // its client misses what does not come back
		})
	}
}

// errRefused is a connection that could not be made.
var errRefused = errors.New("refused")

// ended counts a stream or, if it is none, a visit.
func (t *Traffic) ended(stream bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && stream:
		t.counts.Streams++
	case err == nil:
		t.counts.Visits++
	case errors.Is(err, errRefused):
		t.counts.Refused++
	default:
		t.counts.Lost++
	}
	if err != nil && len(t.faults) < maxFaults {
		t.faults = append(t.faults, fmt.Errorf("%s, generation %d: %w", time.Now().Format("15:04:05.000"), t.generation.Load(), err))
	}
}

// dial does not end with the traffic: what has begun is to end in order.
func (t *Traffic) dial(ctx context.Context) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trafficPatience)
	defer cancel()
	c, err := t.client.Dial(ctx, "tcp", t.address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	return c.(*net.TCPConn), nil
}

// stream says something now and then, for two generations.
func (t *Traffic) stream(ctx context.Context) (isStream bool, err error) {
	c, err := t.dial(ctx)
	if err != nil {
		return true, err
	}
	defer c.Close()
	began, number := t.generation.Load(), 0
	defer func() {
		if err != nil {
			err = fmt.Errorf("stream from %s, begun in generation %d, after %d messages: %w", c.LocalAddr(), began, number, err)
		}
	}()
	for ; ; number++ {
		if err := exchange(c, fmt.Appendf(nil, "message %08d of %s\n", number, c.LocalAddr())); err != nil {
			return true, err
		}
		if number == 0 {
			t.open.Add(1)
			defer t.open.Add(-1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(trafficPause/2 + rand.N(trafficPause)): //nolint:gosec // no secret
		}
		if ctx.Err() != nil || t.generation.Load() >= began+2 {
			return true, finish(c)
		}
	}
}

// visits begins a visit each time that one is due, but not more than some at once.
func (t *Traffic) visits(ctx context.Context) {
	slots := make(chan struct{}, maxVisits)
	due := time.NewTicker(t.every)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		slots <- struct{}{}
		t.running.Go(func() {
			defer func() { <-slots }()
			t.ended(false, t.visit(ctx))
		})
	}
}

func (t *Traffic) visit(ctx context.Context) error {
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	err = exchange(c, fmt.Appendf(nil, "visit of %s\n", c.LocalAddr()))
	if err == nil {
		err = finish(c)
	}
	if err != nil {
		return fmt.Errorf("visit from %s: %w", c.LocalAddr(), err)
	}
	return nil
}

// exchange sends a message and has it come back.
func exchange(c net.Conn, message []byte) error {
	if err := c.SetDeadline(time.Now().Add(trafficPatience)); err != nil {
		return err
	}
	if _, err := c.Write(message); err != nil {
		return err
	}
	back := make([]byte, len(message))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if !bytes.Equal(back, message) {
		return fmt.Errorf("sent %q, got %q", message, back)
	}
	return nil
}

// finish ends our direction, and expects the end of the other.
func finish(c *net.TCPConn) error {
	if err := errors.Join(c.SetDeadline(time.Now().Add(trafficPatience)), c.CloseWrite()); err != nil {
		return err
	}
	more, err := io.ReadAll(c)
	if err == nil && len(more) > 0 {
		err = fmt.Errorf("got %q after the end", more)
	}
	return err
}
