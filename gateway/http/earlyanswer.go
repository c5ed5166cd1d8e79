// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"time"
)

// lingerTime is how long a client in HTTP/1 is listened to that was answered before it had sent its body: if what it still sends met a closed connection, it might lose the answer.
const lingerTime = 5 * time.Second

// answered notes that the answer to a request is there, and says whether it came while the body was on its way: then it does not wait for the rest, and the connection, on which nobody could tell the rest
// from another request, ends after it. In HTTP/2 a stream just ends (RFC 9113, 8.1), which the library does.
func (b *patientBody) answered(w *answer) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.isCut || b.invited && b.until.IsZero() { // it is there, it will not come, or the client waits to be asked for it
		return false
	}
	if w.control.EnableFullDuplex() != nil {
		return false
	}
	b.early = true
	w.Header().Set("Connection", "close")
	return true
}

// linger gives the client time to notice that it was answered: what it sends is heard, and goes nowhere. Unless that is to be waited for, the library does it.
func (b *patientBody) linger(wait bool) {
	b.mu.Lock()
	ended := b.ended
	if !ended {
		b.lingering = true
		_ = b.control.SetReadDeadline(b.now().Add(lingerTime)) // also for who reads now
	}
	b.mu.Unlock()
	if ended || !wait {
		return
	}
	b.turn.Lock()
	defer b.turn.Unlock()
	_, _ = io.Copy(io.Discard, b.body) // until its end, or that of the time
}
