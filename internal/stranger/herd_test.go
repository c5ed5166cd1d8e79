// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// distant is a peer that needs a round trip to answer.
type distant struct {
	*from
	roundTrip time.Duration
}

func (d *distant) Read([]byte) (int, error) {
	select {
	case <-time.After(d.roundTrip):
		return 1, nil
	case <-d.closed:
		return 0, net.ErrClosed
	}
}

// After an upgrade all peers of a cluster come at once, from the address of its gateway. Nobody of them has to go.
func TestHerdBehindOneAddress(t *testing.T) {
	const herd = 2000
	synctest.Test(t, func(t *testing.T) {
		r, turns := NewRoom(4096, 1024), NewTurns(2)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		failed := make(chan error, herd)
		var all sync.WaitGroup
		for i := range herd {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond / herd)
				c, err := r.Enter(&distant{silentFrom("192.0.2.1"), 200 * time.Millisecond}, turns)
				if err == nil {
					defer c.Leave()
					err = c.Turn(ctx)
				}
				if err == nil {
					time.Sleep(time.Millisecond) // what a CPU has to do for it
					_, err = c.Read(make([]byte, 1))
				}
				if err != nil {
					failed <- err
				}
			})
		}
		all.Wait()
		if len(failed) > 0 {
			t.Errorf("%d of %d honest peers had to go: %v", len(failed), herd, <-failed)
		}
		if len(turns) != 0 || r.Silent() != 0 || len(r.hosts) != 0 || r.crowds[unheard].all+r.crowds[begun].all != 0 {
			t.Errorf("left: %d turns, %d silent, %d addresses", len(turns), r.Silent(), len(r.hosts))
		}
	})
}

// Who stalls in the middle of its handshake keeps nobody of its address out for longer than a second.
func TestStalledGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, turns := NewRoom(4, 4), NewTurns(1)
		begin := func() (gone chan error, err error) {
			c, err := r.Enter(&distant{silentFrom("192.0.2.1"), time.Hour}, turns)
			if err != nil {
				return nil, err
			}
			if err := c.Turn(t.Context()); err != nil {
				c.Leave()
				return nil, err
			}
			gone = make(chan error, 1)
			go func() {
				defer c.Leave()
				_, err := c.Read(make([]byte, 1))
				gone <- err
			}()
			synctest.Wait()
			return gone, nil
		}
		first, err := begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := begin(); err != nil {
			t.Fatal(err)
		}
		if _, err := begin(); !errors.Is(err, ErrCrowded) {
			t.Errorf("a third of an address that may have two: %v", err)
		}
		time.Sleep(stalled)
		if _, err := begin(); err != nil {
			t.Errorf("a third when the first stalls: %v", err)
		}
		if err := <-first; !errors.Is(err, ErrCrowded) {
			t.Errorf("the first ended with %v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
	})
}

// A flood of whole ClientHellos for a pod that we know nothing of yet leaves its address the way to other pods, and to that one.
func TestPreparedForNobody(t *testing.T) {
	r, unknown, known := NewRoom(100, 2), NewTurns(1), NewTurns(1)
	wait := func() (gone chan error) {
		c, err := r.Enter(silentFrom("192.0.2.1"), unknown)
		if err != nil {
			t.Fatal(err)
		}
		waits := make(chan struct{})
		gone = make(chan error, 1)
		go func() {
			defer c.Leave()
			gone <- c.Prepare(t.Context(), func(ctx context.Context) error {
				close(waits)
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		<-waits
		return gone
	}
	first := wait()
	wait()
	if c, err := r.Enter(silentFrom("192.0.2.1"), known); err != nil {
		t.Errorf("to another pod: %v", err)
	} else {
		c.Leave()
	}
	select {
	case err := <-first:
		t.Errorf("it gave way to one for another pod: %v", err)
	default:
	}
	wait()
	if err := <-first; !errors.Is(err, ErrCrowded) {
		t.Errorf("the first of three: %v", err)
	}
}
