// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowConn takes each Write only when it is let, and notes what came with it.
type slowConn struct {
	net.Conn
	let    chan error
	closed chan struct{}

	late chan struct{} // closed when the deadline for writing is over

	mu    sync.Mutex
	wrote []string
}

func newSlowConn() *slowConn {
	return &slowConn{let: make(chan error), closed: make(chan struct{}), late: make(chan struct{})}
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.wrote = append(c.wrote, string(p))
	c.mu.Unlock()
	select {
	case err := <-c.let:
		return len(p), err
	case <-c.closed:
		return 0, net.ErrClosed
	case <-c.late:
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *slowConn) Close() error {
	close(c.closed)
	return nil
}

func (c *slowConn) SetWriteDeadline(t time.Time) error {
	time.AfterFunc(time.Until(t), func() { close(c.late) })
	return nil
}

func (c *slowConn) came() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.wrote)
}

func (c *slowConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

func TestWritesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlowConn()
		g := newGathering(c)
		write := func(p string) {
			t.Helper()
			if n, err := g.Write([]byte(p)); n != len(p) || err != nil {
				t.Fatalf("wrote %d of %d bytes, %v", n, len(p), err)
			}
		}
		write("first")
		synctest.Wait() // it is being sent
		for _, part := range []string{"head ", "body ", "end"} {
			write(part)
		}
		c.let <- nil
		synctest.Wait()
		if got := c.came(); !slices.Equal(got, []string{"first", "head body end"}) {
			t.Errorf("it was sent as %q", got)
		}
		c.let <- nil
		synctest.Wait()
		if g.sending {
			t.Error("somebody sends, and nothing is there to be sent")
		}
		write("again")
		c.let <- nil
		synctest.Wait()
		if got := c.came(); len(got) != 3 || got[2] != "again" {
			t.Errorf("it was sent as %q", got)
		}
		if err := g.Close(); err != nil || !c.isClosed() {
			t.Errorf("closed: %v, %v", c.isClosed(), err)
		}
	})
}

// TestWhoWritesMuchWaits: no more is held than gatherMost, or what one Write brings.
func TestWhoWritesMuchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlowConn()
		g := newGathering(c)
		part := bytes.Repeat([]byte("x"), gatherMost/4)
		written := 0
		done, begun := make(chan error, 1), make(chan struct{})
		go func() {
			for range 12 {
				if _, err := g.Write(part); err != nil {
					done <- err
					return
				}
				g.mu.Lock()
				written++
				first := written == 1
				g.mu.Unlock()
				if first {
					begun <- struct{}{}
				}
			}
			done <- nil
		}()
		synctest.Wait() // the first is being sent
		<-begun
		for _, want := range []int{5, 9, 12} { // four are held beside those that are being sent
			synctest.Wait()
			g.mu.Lock()
			if written != want || len(g.pending) > gatherMost {
				t.Errorf("%d parts were taken and %d bytes are held, want %d parts", written, len(g.pending), want)
			}
			g.mu.Unlock()
			c.let <- nil
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.let <- nil
	})
}

func TestGatheringFails(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*gathering, *slowConn)
	}{
		{"what was written cannot be sent", func(_ *gathering, c *slowConn) { c.let <- errors.New("broken") }},
		{"it is closed, and nobody takes what was written", func(g *gathering, _ *slowConn) {
			if err := g.Close(); err != nil {
				panic(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newSlowConn()
				g := newGathering(c)
				waiting := make(chan error)
				go func() {
					_, err := g.Write([]byte("first"))
					for err == nil {
						_, err = g.Write(make([]byte, gatherMost/2))
					}
					waiting <- err
				}()
				synctest.Wait()
				tc.end(g, c)
				if err := <-waiting; err == nil {
					t.Error("who waited to write hears nothing")
				}
				time.Sleep(gatherEnd)
				if synctest.Wait(); !c.isClosed() || g.sending {
					t.Errorf("closed: %v; somebody still sends: %v", c.isClosed(), g.sending)
				}
				if _, err := g.Write([]byte("late")); err == nil {
					t.Error("it is over, and takes more")
				}
			})
		})
	}
}

// TestClosedGatheringSendsWhatItHas: what was written before a connection is closed arrives.
func TestClosedGatheringSendsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlowConn()
		g := newGathering(c)
		for _, part := range []string{"first", "last"} {
			if _, err := g.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if c.isClosed() {
			t.Fatal("it was closed before all was sent")
		}
		c.let <- nil
		c.let <- nil
		synctest.Wait()
		if got := c.came(); !slices.Equal(got, []string{"first", "last"}) || !c.isClosed() {
			t.Errorf("it was sent as %q; closed: %v", got, c.isClosed())
		}
		if err := g.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
	})
}
