// SPDX-License-Identifier: Apache-2.0

package controllers

import "io"

const (
	// smallGulp is what is read of a watch at once, in bytes: a change or two. Each watch keeps that much while it waits for the next one: with 32 KiB the watches of ten clusters held
	// 5.4 MB of 119 (discovery-remote-mem).
	smallGulp = 8 << 10
	// largeGulp is the same while there is more to read than we keep up with, as when a watch begins with what there is: net/http tells the other side of each reading that there
	// is room again, which costs both a packet. With small gulps these were a tenth of the processor time of reading ten clusters.
	largeGulp = 256 << 10
)

// gulps is a buffer before a reader that grows while readings fill it, and is small again when they do not.
type gulps struct {
	from    io.Reader
	buffer  []byte // as large as the next reading
	unread  []byte // of the buffer
	failure error  // after what is unread
}

// Read implements io.Reader.
func (g *gulps) Read(p []byte) (int, error) {
	if len(g.unread) == 0 {
		if g.failure != nil {
			return 0, g.failure
		}
		if g.buffer == nil {
			g.buffer = make([]byte, smallGulp)
		}
		var n int
		n, g.failure = g.from.Read(g.buffer)
		g.unread = g.buffer[:n]
		switch size := len(g.buffer); {
		case n == size && size < largeGulp:
			g.buffer = make([]byte, 2*size) // what is unread stays where it is
		case n < size && size > smallGulp: // all that there was, and nobody knows when the next comes
			g.buffer = make([]byte, smallGulp)
		}
	}
	n := copy(p, g.unread)
	if g.unread = g.unread[n:]; len(g.unread) == 0 {
		g.unread = nil // lets go of a large buffer
	}
	if n > 0 {
		return n, nil
	}
	return 0, g.failure
}
