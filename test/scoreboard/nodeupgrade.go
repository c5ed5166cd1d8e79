// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	upgradeTimes   = 100 // of both nodes' proxies together
	upgradeStreams = 500
	upgradeVisits  = 200 // new connections a second
	upgradeAgents  = 10  // upgrades between two restarts of the agents
	// upgradeFewest is the share of visits that a busy machine must have had time for, lest nothing was tried.
	upgradeFewest = 0.25
)

// nodeUpgrade replaces the proxies of two nodes by turns, two processes side by side each time, while streams go on that have lived through the last upgrade of
// either, and new connections are made all the time. A process that was told to end goes on for as long as it has streams. Now and then the agents begin anew.
func nodeUpgrade(ctx context.Context, out io.Writer) (_ result, err error) {
	r, err := rig.New()
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	o, err := rig.NewRollout(ctx, r, upgradeStreams, upgradeVisits, rig.ProxyOptions{})
	if err != nil {
		return result{}, err
	}
	for o.Traffic.Open() < upgradeStreams {
		if c := o.Traffic.Counts(); c.Lost+c.Refused > 0 {
			break // it will be told of
		}
		select {
		case <-ctx.Done():
			return result{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	began := time.Now()
	for i := range upgradeTimes {
		if i%upgradeAgents == upgradeAgents-1 {
			for _, n := range o.Nodes {
				if err := n.RestartAgent(); err != nil {
					return result{}, err
				}
			}
		}
		ready, err := o.Upgrade(ctx, i%2)
		if err != nil {
			return result{}, err
		}
		c := o.Traffic.Counts()
		fmt.Fprintf(out, "upgrade %d: ready after %.2f s; %d streams open, %d old proxies drain; %d streams and %d visits ended in order, %d lost, %d refused\n",
			i+1, ready.Seconds(), o.Traffic.Open(), o.Draining(), c.Streams, c.Visits, c.Lost, c.Refused)
	}
	took := time.Since(began)
	c, faults := o.Finish(ctx)
	if faults != nil {
		fmt.Fprintln(out, faults)
	}
	rate := float64(c.Visits) / took.Seconds()
	return absolute(out,
		figure{What: "connections lost", Ours: float64(c.Lost)},
		figure{What: "connections refused", Ours: float64(c.Refused)},
		figure{What: "streams that lived through upgrades", Ours: float64(c.Streams), Goal: upgradeStreams, AtLeast: true},
		figure{What: "new connections", Unit: "/s", Ours: rate, Goal: upgradeFewest * upgradeVisits, AtLeast: true},
	), nil
}
