// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
)

// The buffer of one direction grows with what has passed through it: most connections carry a small request, few carry a file. The first steps are
// ztunnel's. 16 KiB are one TLS record, 256 KiB are four of our DATA frames. The last one is what a socket holds at most of a sender that is faster than we are: it is
// woken once for so much (`go run ./test/scoreboard node-bulk`: about a tenth more throughput than with 256 KiB), and only so many may have it that they do not count.
var steps = [...]struct {
	size  int   // of the buffer, in bytes
	after int64 // bytes passed
	most  int64 // how many buffers of this size may be in use, 0: any number
}{
	{size: 1 << 10, after: 0},
	{size: 16 << 10, after: 128 << 10},
	{size: 256 << 10, after: 10 << 20},
	{size: 1 << 20, after: 32 << 20, most: 16},
}

// pools holds the buffers of each step, lent says how many are in use of those that are bounded.
var (
	pools [len(steps)]sync.Pool
	lent  [len(steps)]atomic.Int64
)

// getBuffer gives a buffer of the step; nil if no more of them may be in use.
func getBuffer(step int) *[]byte {
	if most := steps[step].most; most > 0 && lent[step].Add(1) > most {
		lent[step].Add(-1)
		return nil
	}
	if b, ok := pools[step].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, steps[step].size)
	return &b
}

func putBuffer(step int, b *[]byte) {
	pools[step].Put(b)
	if steps[step].most > 0 {
		lent[step].Add(-1)
	}
}

// pump copies src to dst until src ends with io.EOF, which gives nil. It adds to count what dst has taken.
func pump(dst io.Writer, src io.Reader, count *atomic.Int64) error {
	step := 0
	buf := getBuffer(step)
	defer func() { putBuffer(step, buf) }()
	var passed int64
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			m, werr := dst.Write((*buf)[:n])
			count.Add(int64(m))
			if werr != nil {
				return werr
			}
			passed += int64(n)
		}
		if err == io.EOF { // not errors.Is: what only wraps io.EOF tells of a broken connection, not of an end
			return nil
		}
		if err != nil {
			return err
		}
		// A buffer that is not filled need not grow.
		if step+1 < len(steps) && passed >= steps[step+1].after && n == len(*buf) {
			if bigger := getBuffer(step + 1); bigger != nil {
				putBuffer(step, buf)
				step++
				buf = bigger
			}
		}
	}
}

// gone says whether the error tells of a peer that is not there any more.
func gone(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN)
}
