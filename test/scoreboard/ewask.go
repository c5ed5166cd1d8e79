// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	// askPatience is how long a client waits for an answer before it asks again, on a new connection.
	askPatience = 5 * time.Second
	// askPause is what it does between two attempts.
	askPause = 20 * time.Millisecond
	// askLost is when a request counts as lost, with all its attempts.
	askLost = 40 * time.Second
	// askSlow is what makes a request one that was held up, although its first attempt succeeded; on a machine that is busy it is more, see expect.
	askSlow = 500 * time.Millisecond
	// askVerySlow is what makes it so in any case.
	askVerySlow = 2 * time.Second
	// askedEvery is how often each client asks.
	askedEvery = 50 * time.Millisecond
)

// answerQuestions has a pod answer each question, 8 bytes, with the same and its number, until the client ends. It does so for as long as what it returns is open.
func answerQuestions(ctx context.Context, pod *rig.Pod, number uint32) (net.Listener, error) {
	l, err := pod.Listen(ctx, "tcp4", "0.0.0.0:"+portEcho)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 12)
				for {
					if _, err := io.ReadFull(c, b[:8]); err != nil {
						return
					}
					binary.BigEndian.PutUint32(b[8:], number)
					if _, err := c.Write(b); err != nil {
						return // the client misses it
					}
				}
			}()
		}
	}()
	return l, nil
}

// asking is clients in a pod that ask a service all the time, and ask again when they get no answer. Half of them make a connection for each question, the others
// keep theirs.
type asking struct {
	from    *rig.Pod
	to      string
	asked   atomic.Uint64
	lost    atomic.Int64
	running sync.WaitGroup
	stop    context.CancelFunc

	mu      sync.Mutex
	pending map[uint64]time.Time // questions without an answer, and when each was asked first
	held    []hold               // since the last call of watch
	watched time.Time
	answers map[uint32]int // by pods, since then
	slowest time.Duration  // of them
	slow    time.Duration  // what takes longer was held up
	errs    []error
}

// hold is a question that was not simply answered.
type hold struct {
	asked, answered time.Time
	failures        int
	err             error
}

// startAsking begins with so many clients.
func startAsking(ctx context.Context, from *rig.Pod, to string, clients int) *asking {
	a := &asking{slow: askSlow, from: from, to: net.JoinHostPort(to, portEcho), pending: map[uint64]time.Time{}, answers: map[uint32]int{}}
	ctx, a.stop = context.WithCancel(ctx)
	for i := range clients {
		first := time.Duration(i) * askedEvery / time.Duration(clients)
		a.running.Go(func() {
			// All of a client's connections are made on one thread, inside the pod.
			err := a.from.Inside(func() error {
				a.client(ctx, first, i%2 == 0)
				return nil
			})
			if err != nil {
				a.mu.Lock()
				a.errs = append(a.errs, err)
				a.mu.Unlock()
			}
		})
	}
	return a
}

// end stops asking, and waits until what was asked is answered or lost. It says how many were asked and how many lost.
func (a *asking) end() (asked, lost int, err error) {
	a.stop()
	a.running.Wait()
	return int(a.asked.Load()), int(a.lost.Load()), errors.Join(a.errs...)
}

func (a *asking) client(ctx context.Context, first time.Duration, keep bool) {
	var kept net.Conn
	defer func() {
		if kept != nil {
			kept.Close()
		}
	}()
	for at := time.Now().Add(first); ctx.Err() == nil; at = at.Add(askedEvery) {
		if late := time.Since(at); late > askedEvery {
			at = time.Now() // it was held up, and does not make up for that
		}
		time.Sleep(time.Until(at))
		kept = a.ask(kept)
		if kept != nil && !keep {
			kept.Close()
			kept = nil
		}
	}
}

// ask has one question answered, on a connection if there is one, and gives the connection that it came to.
func (a *asking) ask(c net.Conn) net.Conn {
	id := a.asked.Add(1)
	h := hold{asked: time.Now()}
	a.mu.Lock()
	a.pending[id] = h.asked
	a.mu.Unlock()
	defer func() {
		h.answered = time.Now()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.pending, id)
		took := h.answered.Sub(h.asked)
		a.slowest = max(a.slowest, took)
		if h.failures > 0 || took > a.slow {
			a.held = append(a.held, h)
		}
	}()
	for time.Since(h.asked) < askLost {
		number, err := uint32(0), error(nil)
		if c == nil {
			ctx, cancel := context.WithTimeout(context.Background(), askPatience)
			c, err = new(net.Dialer).DialContext(ctx, "tcp4", a.to)
			cancel()
		}
		if err == nil {
			number, err = question(c, id, askPatience)
		}
		if err == nil {
			a.mu.Lock()
			a.answers[number]++
			a.mu.Unlock()
			return c
		}
		if c != nil {
			c.Close()
			c = nil
		}
		h.failures, h.err = h.failures+1, err
		time.Sleep(askPause)
	}
	a.lost.Add(1)
	return nil
}

// question asks which pod is at the other end of a connection.
func question(c net.Conn, id uint64, patience time.Duration) (number uint32, err error) {
	b := binary.BigEndian.AppendUint64(nil, id)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.Write(b); err != nil {
		return 0, err
	}
	back := make([]byte, 12)
	if _, err := io.ReadFull(c, back); err != nil {
		return 0, err
	}
	if got := binary.BigEndian.Uint64(back); got != id {
		return 0, fmt.Errorf("asked %d, answered %d", id, got)
	}
	return binary.BigEndian.Uint32(back[8:]), nil
}

// watch forgets what was, and notes from now on.
func (a *asking) watch() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget()
}

func (a *asking) forget() {
	a.held, a.watched, a.slowest = nil, time.Now(), 0
	clear(a.answers)
}

// expect is watch, and has a question be slow from now on if it takes twice as long as any did since the last watch: that is how busy the machine is.
func (a *asking) expect() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow = min(max(askSlow, 2*a.slowest), askVerySlow)
	a.forget()
}

// heldUp says how many questions were held up since watch, and how many attempts failed.
func (a *asking) heldUp() (questions, failures int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.held {
		failures += h.failures
	}
	return len(a.held), failures
}

// answeredBy is how many questions each pod has answered since watch.
func (a *asking) answeredBy(number uint32) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.answers[number]
}

// interrupted is how long after watch the last question was answered that had been held up: 0 if there is none. settled says that there is none under way that might be,
// and that there was none for a while.
func (a *asking) interrupted(quiet time.Duration) (last time.Duration, worst hold, settled bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.held {
		if d := h.answered.Sub(a.watched); d > last {
			last, worst = d, h
		}
	}
	now := time.Now()
	settled = now.Sub(a.watched) > last+quiet
	for _, asked := range a.pending {
		settled = settled && now.Sub(asked) < a.slow/2
	}
	return last, worst, settled
}
