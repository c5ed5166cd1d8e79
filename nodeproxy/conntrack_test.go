// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeproxy

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink/nl"
)

// TestConnectionTrackIsTriedAgain: what could not be opened once, for want of descriptors, is opened when it can, but not tried for each query.
func TestConnectionTrackIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why, tries := errors.New("too many open files"), 0
		c := &connectionTrack{open: func() (*nl.SocketHandle, error) { tries++; return nil, why }}
		ask := func() {
			t.Helper()
			if _, err := c.meant(netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:15053")); err == nil {
				t.Error("an answer of nobody")
			}
		}
		if err := c.ready(); !errors.Is(err, why) {
			t.Errorf("ready: %v", err)
		}
		ask()
		if tries != 1 {
			t.Errorf("%d attempts at once", tries)
		}
		time.Sleep(trackPause)
		ask()
		ask()
		if tries != 2 {
			t.Errorf("%d attempts after a pause, want 2", tries)
		}
		c.close()
		time.Sleep(trackPause)
		ask()
		if tries != 2 {
			t.Error("opened again after the end")
		}
	})
}
