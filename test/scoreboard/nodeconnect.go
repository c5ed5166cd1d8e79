// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	nodeConnectRounds = 7
	nodeConnectSlices = 5
	nodeConnectWarm   = 20  // connections unmeasured before each slice
	nodeConnectAlone  = 100 // connections one after the other per slice
	nodeConnectAtOnce = 8
	nodeConnectEach   = 50   // connections of each of those per slice
	nodeConnectGoal   = 0.6  // times what two TCP relays do a second, at least
	nodeConnectExtra  = 0.15 // ms that a connection may take longer than without anything between, at the median
)

// nodeConnect makes new connections for a byte each way: through two node proxies that have a tunnel already; through two TCP relays at the same places, for how
// many there are in a second; and without anything between, for how long one takes. How long one takes through the relays is said beside it: it is what the machine
// takes for the hops, whoever makes them.
func nodeConnect(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newNodeStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	control, err := s.relays(ctx, "relay", portByte)
	if err != nil {
		return result{}, err
	}
	apps, manyApps := [2]*nodeApp{s.client, s.plainClient}, [2]*nodeApp{s.client, control.client}
	alone := [2]string{net.JoinHostPort(s.through, portByte), net.JoinHostPort(s.direct, portByte)}
	many := [2]string{alone[0], control.address}
	pairs := [2][2]*rig.Process{{s.proxies[0].Process, s.proxies[1].Process}, control.processes}
	var middles, rates, costs sides
	var relayed []float64
	for round := range nodeConnectRounds {
		var middle, rate, cost sides
		var chain []float64
		err := alternate(nodeConnectSlices, func(side int) error {
			app := apps[side]
			if _, err := app.do(ctx, appOrder{Do: "visit", To: alone[side], Each: nodeConnectWarm}); err != nil {
				return err
			}
			one, err := app.do(ctx, appOrder{Do: "visit", To: alone[side], Each: nodeConnectAlone})
			if err != nil {
				return err
			}
			if side == 1 {
				through, err := control.client.do(ctx, appOrder{Do: "visit", To: control.address, Each: nodeConnectAlone})
				if err != nil {
					return err
				}
				chain = append(chain, percentile(through.Took, 50)/1000)
			}
			before, err := usages(pairs[side])
			if err != nil {
				return err
			}
			all, err := manyApps[side].do(ctx, appOrder{Do: "visits", To: many[side], Connections: nodeConnectAtOnce, Each: nodeConnectEach})
			if err != nil {
				return err
			}
			after, err := usages(pairs[side])
			if err != nil {
				return err
			}
			const n = nodeConnectAtOnce * nodeConnectEach
			middle[side] = append(middle[side], percentile(one.Took, 50)/1000)
			rate[side] = append(rate[side], n/all.Wall.Seconds())
			used := after[0].Processor - before[0].Processor + after[1].Processor - before[1].Processor
			cost[side] = append(cost[side], microseconds(used)/n)
			return nil
		})
		if err != nil {
			return result{}, err
		}
		middles.add(middle, fastTime)
		rates.add(rate, fastRate)
		costs.add(cost, middling)
		relayed = append(relayed, percentile(chain, fastTime))
		r, knownR := rates.last()
		p50, knownP50 := middles.last()
		c, knownC := costs.last()
		fmt.Fprintf(out, "round %d: proxies %.0f connections/s at %.0f CPU-µs each, alone p50 %.3f ms; TCP relays %.0f/s at %.0f CPU-µs each; direct alone p50 %.3f ms\n",
			round+1, r, c, p50, knownR, knownC, knownP50)
	}
	fmt.Fprintf(out, "one through the TCP relays in place of the proxies: p50 %.3f ms, which is %.3f ms more than direct\n", median(relayed), median(relayed)-median(middles[1]))
	rate, knownRate := rates.medians()
	return ratio(out, nodeConnectGoal,
		atLeast("new connections, 8 at once", "/s", rate, knownRate, "two TCP relays", nodeConnectGoal),
		added("p50 of a new connection", middles, nodeConnectExtra),
	), nil
}
