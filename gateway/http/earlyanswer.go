// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"net/http"
	"time"
)

const (
	// lingerTime is how long a client in HTTP/1 is listened to that was answered before it had sent its body, if it may be silent for so long: if what it still sends met a closed connection, it might lose
	// the answer.
	lingerTime = 5 * time.Second
	// lingerBytes is how much of what it still sends is heard, in bytes: as much as can be on its way when the answer comes, which are Linux's largest buffers of a connection, 4 MiB where it is sent from
	// (net.ipv4.tcp_wmem) and 6 MiB where it arrives (tcp_rmem; by default, before Linux 6.16). Who looks at answers while it sends has sent no more. net/http would hear 256 KiB.
	lingerBytes = 10 << 20
	// smallBody is how large a body may be that is worth its connection, in bytes: net/http's measure, too.
	smallBody = 256 << 10
)

// answered is told when the answer to a request begins. If the body is still on its way then, the answer does not wait for the rest, as the library would without end. The connection, on which nobody could tell the rest
// from another request, ends after it; but a small body that nobody has asked for may be there already, or nearly, and who was refused should not have to connect again for that. In HTTP/2 a stream just ends
// (RFC 9113, 8.1), which the library does.
func (b *patientBody) answered(h http.Header) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.early || b.ended || b.isCut || b.stalled.Load() { // it is there, or it will not come
		return
	}
	if b.control.EnableFullDuplex() != nil {
		return
	}
	b.early = true
	if !b.until.IsZero() || b.size > smallBody || b.size < 0 { // the library hears out those of unknown length, too, but does not look whether they end as they should: what follows might be taken for a request
		h.Set("Connection", "close")
	}
}

// linger gives a client that was answered early time to notice: what it sends is heard, and goes nowhere. whole: the answer did not break off.
func (a *answer) linger(whole bool) {
	b := a.upload
	if b == nil || !b.early {
		return
	}
	whole = whole && a.Header().Get("Content-Length") != "" // the end of one of unknown length is told when we are done
	if whole {
		_ = a.FlushError() // who left does not send any more either
	}
	b.linger(whole)
}

// linger hears the client out. Unless that is to be waited for, the library does it, for 256 KiB at most.
func (b *patientBody) linger(wait bool) {
	b.mu.Lock()
	ended := b.ended
	if !ended {
		b.lingering = true
		_ = b.control.SetReadDeadline(b.now().Add(min(b.stall, lingerTime))) // also for who reads now
	}
	asks := b.invited && b.until.IsZero() // to read would be to ask for it
	b.mu.Unlock()
	if ended || asks || !wait {
		return
	}
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	_, _ = io.CopyN(io.Discard, b.body, lingerBytes) // until its end, or that of the time
}
