// SPDX-License-Identifier: Apache-2.0

package logpipe

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Room is how many bytes of lines wait for their reader at most: some 6,000 lines of an access log.
const Room = 4 << 20

// Writer passes lines on to another one, in their order. Its methods may be called from any goroutine.
type Writer struct {
	to   io.Writer
	room int
	lost atomic.Uint64

	mu      sync.Mutex
	waiting []byte
	closed  bool

	some chan struct{} // holds a token while there may be something to write
	done chan struct{} // closed when all that was to be written is
}

// New passes lines on to to, of which up to room bytes may wait. Close it.
func New(to io.Writer, room int) *Writer {
	w := &Writer{to: to, room: room, some: make(chan struct{}, 1), done: make(chan struct{})}
	go w.pass()
	return w
}

// Write takes whole lines, which it copies. It waits for nobody and never fails: what there is no room for is lost.
func (w *Writer) Write(lines []byte) (int, error) {
	w.mu.Lock()
	fits := !w.closed && len(w.waiting)+len(lines) <= w.room
	if fits {
		w.waiting = append(w.waiting, lines...)
	}
	w.mu.Unlock()
	if !fits {
		w.lost.Add(1)
		return len(lines), nil
	}
	w.wake()
	return len(lines), nil
}

// Lost is how many calls of Write there was no room for; none of a nil Writer.
func (w *Writer) Lost() uint64 {
	if w == nil {
		return 0
	}
	return w.lost.Load()
}

// Close waits until what was taken is written, or for so long, and takes nothing from then on.
func (w *Writer) Close(patience time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wake()
	select {
	case <-w.done:
	case <-time.After(patience):
	}
}

func (w *Writer) wake() {
	select {
	case w.some <- struct{}{}:
	default:
	}
}

// pass writes what waits, all of it at once, until the Writer is closed.
func (w *Writer) pass() {
	defer close(w.done)
	var batch []byte
	for range w.some {
		w.mu.Lock()
		batch, w.waiting = w.waiting, batch[:0]
		closed := w.closed
		w.mu.Unlock()
		if len(batch) > 0 {
			_, _ = w.to.Write(batch) // there is nobody to tell: it is the log that fails
		}
		if closed {
			return
		}
	}
}
