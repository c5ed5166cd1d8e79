// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	near, far := pair(t)
	if _, err := near.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if d := Of(near).RoundTrip(); d <= 0 || d > time.Second {
		t.Errorf("%v over loopback", d)
	}
	near.Close()
	if d := Of(near); d != nil && d.RoundTrip() != 0 {
		t.Error("a closed connection has a round trip")
	}
}
