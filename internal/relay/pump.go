// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
)

// The buffer of one direction grows with what has passed through it: most connections carry a small request, few carry a file. The steps are
// ztunnel's. 16 KiB are one TLS record, 256 KiB are four of our DATA frames.
var steps = [...]struct {
	size  int   // of the buffer, in bytes
	after int64 // bytes passed
}{
	{size: 1 << 10, after: 0},
	{size: 16 << 10, after: 128 << 10},
	{size: 256 << 10, after: 10 << 20},
}

// pools holds the buffers of each step.
var pools [len(steps)]sync.Pool

func getBuffer(step int) *[]byte {
	if b, ok := pools[step].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, steps[step].size)
	return &b
}

// pump copies src to dst until src ends with io.EOF, which gives nil. It adds to count what dst has taken.
func pump(dst io.Writer, src io.Reader, count *atomic.Int64) error {
	step := 0
	buf := getBuffer(step)
	defer func() { pools[step].Put(buf) }()
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
			pools[step].Put(buf)
			step++
			buf = getBuffer(step)
		}
	}
}

// gone says whether the error tells of a peer that is not there any more.
func gone(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN)
}
