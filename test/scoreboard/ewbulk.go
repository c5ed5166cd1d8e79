// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	ewBulkRounds = 7
	ewBulkSlices = 4
	ewBulkBytes  = 256 << 20 // per slice
	ewBulkGoal   = 0.90      // times what TLS-in-TLS relays carry, at least
)

// ewBulk sends one stream to another cluster through two node proxies and a gateway, and through three relays with the same TLS in TLS at the same places.
func ewBulk(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newEWPair(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	plain, relay, relays, err := s.relayed(ctx)
	if err != nil {
		return result{}, err
	}
	apps, to, paths := [2]*nodeApp{s.client, plain}, [2]string{net.JoinHostPort(s.remote, portSink), relay}, [2][]*rig.Process{s.path, relays}
	var speeds, costs sides
	for round := range ewBulkRounds {
		var speed, cost sides
		err := alternate(ewBulkSlices, func(side int) error {
			before, err := usedBy(paths[side])
			if err != nil {
				return err
			}
			found, err := apps[side].do(ctx, appOrder{Do: "bulk", To: to[side], Bytes: ewBulkBytes})
			if err != nil {
				return err
			}
			after, err := usedBy(paths[side])
			if err != nil {
				return err
			}
			speed[side] = append(speed[side], spent{wall: found.Wall}.speed(ewBulkBytes))
			cost[side] = append(cost[side], spent{processor: after - before}.perGB(ewBulkBytes))
			return nil
		})
		if err != nil {
			return result{}, err
		}
		speeds.add(speed, fastRate)
		costs.add(cost, middling)
		v, knownV := speeds.last()
		c, knownC := costs.last()
		fmt.Fprintf(out, "round %d: proxies and gateway %.2f GB/s at %.2f CPU-s/GB, relays %.2f GB/s at %.2f CPU-s/GB\n", round+1, v, c, knownV, knownC)
	}
	cost, knownCost := costs.medians()
	fmt.Fprintf(out, "processor time of all three: proxies and gateway %.2f s/GB, relays %.2f s/GB; no goal\n", cost, knownCost)
	speed, knownSpeed := speeds.medians()
	return ratio(out, ewBulkGoal, atLeast("throughput, one stream", "GB/s", speed, knownSpeed, "TLS-in-TLS relays", ewBulkGoal)), nil
}

// usedBy is the processor time of all of them together.
func usedBy(all []*rig.Process) (sum time.Duration, err error) {
	for _, p := range all {
		u, err := p.Usage()
		if err != nil {
			return 0, err
		}
		sum += u.Processor
	}
	return sum, nil
}
