// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"testing"
	"time"
)

// TestUpgrades replaces the proxies of both nodes, and their agents, under streams and new connections: none is lost, none refused. The scoreboard's row node-upgrade
// is the same with more of all.
func TestUpgrades(t *testing.T) {
	r, ctx := newRig(t)
	const streams = 40
	o, err := NewRollout(ctx, r, streams, 50, ProxyOptions{})
	must(t, err)
	all := func(what string) {
		t.Helper()
		for o.Traffic.Open() < streams {
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %d streams of %d are open: %+v", what, o.Traffic.Open(), streams, o.Traffic.Counts())
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	all("in the beginning")
	for i := range 4 {
		if i == 2 {
			for _, n := range o.Nodes {
				must(t, n.RestartAgent())
			}
		}
		ready, err := o.Upgrade(ctx, i%2)
		must(t, err)
		t.Logf("ready after %v, %d drain, %+v", ready.Round(time.Millisecond), o.Draining(), o.Traffic.Counts())
		if i == 0 && o.Draining() != 1 {
			t.Error("the old proxy did not wait for its streams")
		}
	}
	counts, err := o.Finish(ctx)
	if err != nil || counts.Lost != 0 || counts.Refused != 0 || counts.Streams < streams || counts.Visits == 0 {
		t.Errorf("%+v: %v", counts, err)
	}
}
