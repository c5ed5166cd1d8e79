// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"io"
	"testing"
	"time"
)

// TestNestedTail writes what the window of the outer stream cuts within an inner frame: what was sent must not wait in the kernel for more.
func TestNestedTail(t *testing.T) {
	outer := Settings{StreamWindow: 16 << 10}
	a, b := tcpPair(t)
	c, s := join(t, NewTransport(a), NewTransport(b), outer, outer)
	x, y := open(t, c, s)
	time.Sleep(50 * time.Millisecond) // nothing is under way any more
	if n, err := x.tryWrite(make([]byte, 16<<10), true); n != 16<<10 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := x.tryWrite(make([]byte, 16<<10), false); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	begin := time.Now()
	if _, err := io.ReadFull(y, make([]byte, 16<<10)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 100*time.Millisecond {
		t.Errorf("what the window allowed took %v", d)
	}
}
