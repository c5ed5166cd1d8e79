// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// However a peer cuts what it sends, we look at it a few times: each time all of it is copied.
func TestHelloIsLookedAtSeldom(t *testing.T) {
	hello := helloOf(t)
	for _, tc := range []struct {
		name string
		in   []byte
		err  error
	}{
		{"one record", hello, nil},
		{"as many records as there may be", inRecords(hello, (len(hello)-recordHeader+maxRecords-1)/maxRecords), nil},
		{"records of 1", inRecords(hello, 1), ErrNotTLS},
	} {
		far, c := pair(t, NewRoom(1, 1), nil)
		go func() {
			for i := range tc.in {
				if _, err := far.Write(tc.in[i : i+1]); err != nil {
					return // it was refused
				}
			}
		}()
		raw, err := c.Conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		a, looks := await{least: 1}, 0
		err = raw.Read(func(fd uintptr) bool { looks++; return a.look(fd) })
		if err := errors.Join(err, a.err); !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", tc.name, err)
		}
		// For each record its header and the rest; the kernel may wake us once more when we say how much we wait for.
		if looks > 4*(maxRecords+1) {
			t.Errorf("%s: looked %d times at %d bytes", tc.name, looks, len(tc.in))
		}
		c.Close()
	}
}
