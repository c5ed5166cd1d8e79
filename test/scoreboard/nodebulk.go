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
	nodeBulkRounds = 7
	nodeBulkSlices = 4
	nodeBulkBytes  = 256 << 20 // per slice
	nodeBulkGoal   = 0.90      // times what two TLS relays carry, at least
)

// nodeBulk sends one stream from pod to pod through two node proxies, and through two relays with the same TLS at the same places.
func nodeBulk(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newNodeStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	control, err := s.relays(ctx, "relay-tls", portSink)
	if err != nil {
		return result{}, err
	}
	apps, to := [2]*nodeApp{s.client, control.client}, [2]string{net.JoinHostPort(s.through, portSink), control.address}
	pairs := [2][2]*rig.Process{{s.proxies[0].Process, s.proxies[1].Process}, control.processes}
	var speeds, costs sides
	for round := range nodeBulkRounds {
		var speed, cost sides
		err := alternate(nodeBulkSlices, func(side int) error {
			before, err := usages(pairs[side])
			if err != nil {
				return err
			}
			found, err := apps[side].do(ctx, appOrder{Do: "bulk", To: to[side], Bytes: nodeBulkBytes})
			if err != nil {
				return err
			}
			after, err := usages(pairs[side])
			if err != nil {
				return err
			}
			var used time.Duration
			for i := range after {
				used += after[i].Processor - before[i].Processor
			}
			speed[side] = append(speed[side], spent{wall: found.Wall}.speed(nodeBulkBytes))
			cost[side] = append(cost[side], spent{processor: used}.perGB(nodeBulkBytes))
			return nil
		})
		if err != nil {
			return result{}, err
		}
		speeds.add(speed, fastRate)
		costs.add(cost, middling)
		v, knownV := speeds.last()
		c, knownC := costs.last()
		fmt.Fprintf(out, "round %d: proxies %.2f GB/s at %.2f CPU-s/GB, TLS relays %.2f GB/s at %.2f CPU-s/GB\n", round+1, v, c, knownV, knownC)
	}
	cost, knownCost := costs.medians()
	fmt.Fprintf(out, "processor time of both: proxies %.2f s/GB, TLS relays %.2f s/GB; no goal\n", cost, knownCost)
	speed, knownSpeed := speeds.medians()
	return ratio(out, nodeBulkGoal, atLeast("throughput, one stream", "GB/s", speed, knownSpeed, "two TLS relays", nodeBulkGoal)), nil
}
