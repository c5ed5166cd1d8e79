// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"net"
	"testing"
)

func TestLinesCloseWhatIsOpen(t *testing.T) {
	var far []net.Conn
	l := &lines{pace: newPace(&pacer{}, newBudget()), dial: func(context.Context, string, string) (net.Conn, error) {
		near, other := net.Pipe()
		far = append(far, other)
		return near, nil
	}}
	dial := func() (net.Conn, error) { return l.DialContext(context.Background(), "tcp", "far:1") }
	for range 3 {
		if _, err := dial(); err != nil {
			t.Fatal(err)
		}
	}
	done, err := dial()
	if err != nil || done.Close() != nil || len(l.open) != 3 {
		t.Fatalf("%v, and %d are kept, want 3", err, len(l.open))
	}
	l.closeAll()
	if _, err := dial(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("one that is made too late: %v", err)
	}
	for i, c := range far {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("connection %d is open", i)
		}
	}
}
