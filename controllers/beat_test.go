// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sayingConn is a connection to who says one byte at each of some times, in milliseconds from the beginning, and then nothing.
type sayingConn struct {
	net.Conn
	began time.Time
	says  []int
}

func (c *sayingConn) Read(b []byte) (int, error) {
	if len(c.says) == 0 {
		return 0, net.ErrClosed
	}
	time.Sleep(time.Until(c.began.Add(time.Duration(c.says[0]) * time.Millisecond)))
	n := 0
	for n < len(b) && len(c.says) > 0 && time.Since(c.began) >= time.Duration(c.says[0])*time.Millisecond {
		n, c.says = n+1, c.says[1:]
	}
	return n, nil
}

// readPaced says when a connection's bytes are read, in milliseconds from the beginning: by a reader with a buffer for so many.
func readPaced(p *pace, buffer int, says ...int) []int {
	began := time.Now()
	c := newPacedConn(&sayingConn{began: began, says: says}, p)
	c.open = time.Time{} // it is not new
	var read []int
	for b := make([]byte, buffer); ; {
		n, err := c.Read(b)
		if err != nil {
			return read
		}
		for range n {
			read = append(read, int(time.Since(began).Milliseconds()))
		}
	}
}

func TestReadingKeepsTime(t *testing.T) {
	bulk := func(n, at int) (said []int) {
		for range n {
			said = append(said, at)
		}
		return said
	}
	for _, tc := range []struct {
		name       string
		prompt     int // readings that are not for a tick
		syncing    bool
		buffer     int
		says, want []int
	}{
		{"a change after a quiet time", 1, false, 16, []int{30}, []int{30}},
		{"what comes right behind it", 1, false, 16, []int{30, 33}, []int{30, 33}},
		{"what comes later", 1, false, 16, []int{30, 40, 70, 99}, []int{30, 100, 100, 100}},
		{"one change after another", 0, false, 16, []int{10, 110, 111, 290, 301}, []int{100, 200, 200, 300, 301}},
		{"a long answer", 0, false, 16, bulk(64, 10), append(bulk(1, 100), bulk(63, 100)...)},
		{"the first read", 0, true, 16, []int{10, 20, 30, 110}, []int{10, 20, 30, 110}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(&pacer{}, newBudget())
				p.calm.Store(!tc.syncing)
				p.prompt.AllowN(time.Now(), promptBurst-tc.prompt)
				if got := readPaced(p, tc.buffer, tc.says...); !slices.Equal(got, tc.want) {
					t.Errorf("read at %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// TestNewConnectionIsReadAtOnce: handshakes and first questions do not wait for ticks, and changes do as soon as it is not new any more.
func TestNewConnectionIsReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(&pacer{}, newBudget())
		p.calm.Store(true)
		p.prompt.AllowN(time.Now(), promptBurst)
		began := time.Now()
		c := newPacedConn(&sayingConn{began: began, says: []int{10, 20, 4990, 7010, 7030}}, p)
		var read []int
		for {
			if _, err := c.Read(make([]byte, 16)); err != nil {
				break
			}
			read = append(read, int(time.Since(began).Milliseconds()))
		}
		// Some 3.5 readings at once have come back in 7 s.
		if want := []int{10, 20, 4990, 7010, 7030}; !slices.Equal(read, want) {
			t.Errorf("read at %v, want %v", read, want)
		}
	})
}

// TestClustersAreReadTogether: those that change all the time are read at the same ticks.
func TestClustersAreReadTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		together := &pacer{}
		var running sync.WaitGroup
		for i := range 10 {
			running.Go(func() {
				p := newPace(together, newBudget())
				p.calm.Store(true)
				p.prompt.AllowN(time.Now(), promptBurst)
				if got := fmt.Sprint(readPaced(p, 16, 10+i, 120+i)); got != "[100 200]" {
					t.Errorf("cluster %d was read at %s, want [100 200]", i, got)
				}
			})
		}
		running.Wait()
	})
}
