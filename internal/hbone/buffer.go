// SPDX-License-Identifier: Apache-2.0

package hbone

import "sync"

// chunk is a piece of received bytes: b[r:w] is not yet read.
type chunk struct {
	next *chunk
	r, w int
	b    []byte
}

// chunkSizes are the sizes of pooled chunks, in bytes: a small request or answer, a TLS record, a large frame.
var chunkSizes = [...]int{2 << 10, 16 << 10, 64 << 10}

var chunkPools [len(chunkSizes)]sync.Pool

func newChunk(want int) *chunk {
	class := len(chunkSizes) - 1
	for class > 0 && chunkSizes[class] > want {
		class-- // the rest gets a smaller one, so that no more than that is left empty
	}
	if c, ok := chunkPools[class].Get().(*chunk); ok {
		return c
	}
	return &chunk{b: make([]byte, chunkSizes[class])}
}

func (c *chunk) free() {
	c.next, c.r, c.w = nil, 0, 0
	for class, size := range chunkSizes {
		if len(c.b) == size {
			chunkPools[class].Put(c)
		}
	}
}

// recvBuffer is a queue of received bytes with one filler (the holder of the connection's seat) and one taker (the stream's reader).
// Both touch the bytes without the lock and the queue with it: space … fill on one side, peek … drop on the other. An empty buffer
// holds no memory. Guarded by the stream's mu.
type recvBuffer struct {
	head, tail *chunk
	size       int
	filling    bool   // the tail is lent to the filler
	taking     bool   // the head is lent to the taker
	epoch      uint32 // counts discards, so that a borrower notices one
}

// space lends room for at least one and at most want bytes.
func (b *recvBuffer) space(want int) (room []byte, epoch uint32) {
	t := b.tail
	if t == nil || t.w == len(t.b) {
		t = newChunk(want)
		if b.tail == nil {
			b.head = t
		} else {
			b.tail.next = t
		}
		b.tail = t
	}
	b.filling = true
	return t.b[t.w:min(len(t.b), t.w+want)], b.epoch
}

// fill gives the room back with n bytes in it. False: the buffer was discarded meanwhile, and the bytes are gone.
func (b *recvBuffer) fill(n int, epoch uint32) bool {
	if epoch != b.epoch {
		return false
	}
	b.filling = false
	b.tail.w += n
	b.size += n
	if b.size == 0 && !b.taking {
		b.discard()
	}
	return true
}

// write copies p behind what is there.
func (b *recvBuffer) write(p []byte) {
	for len(p) > 0 {
		room, epoch := b.space(len(p))
		n := copy(room, p)
		b.fill(n, epoch)
		p = p[n:]
	}
}

// peek lends the oldest bytes. There must be some.
func (b *recvBuffer) peek() (data []byte, epoch uint32) {
	b.taking = true
	return b.head.b[b.head.r:b.head.w], b.epoch
}

// drop gives the bytes back and removes the first n of them. False: the buffer was discarded meanwhile.
func (b *recvBuffer) drop(n int, epoch uint32) bool {
	if epoch != b.epoch {
		return false
	}
	b.taking = false
	h := b.head
	h.r += n
	b.size -= n
	if h.r < h.w || h == b.tail && b.filling {
		return true
	}
	b.head = h.next
	if b.head == nil {
		b.tail = nil
	}
	h.free()
	return true
}

// discard forgets everything and says how many bytes that were. What is lent out is left to the garbage collector, not to the pool.
func (b *recvBuffer) discard() int {
	for c := b.head; c != nil; {
		next := c.next
		if lent := c == b.head && b.taking || c == b.tail && b.filling; !lent {
			c.free()
		}
		c = next
	}
	n := b.size
	*b = recvBuffer{epoch: b.epoch + 1}
	return n
}
