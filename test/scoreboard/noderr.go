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
	nodeRate        = 1000 // requests of 1 KiB a second
	nodeConnections = 16   // on as many connections

	nodeRRRounds = 5
	nodeRRSlices = 6 // of each side per round
	nodeRRSlice  = time.Second
	nodeRRMiddle = 0.10 // ms that two proxies may add, at the median
	nodeRRTail   = 0.17 // at the 90th percentile: what two ztunnels add, by what upstream published

	nodeCostFor       = 10 * time.Second // of each side per round
	nodeCostRounds    = 3
	nodeCostProcessor = 0.10 // cores
	nodeCostMemory    = 40   // MB
)

// nodeRR sends 1 KiB to and fro, a thousand times a second, through two node proxies, and between pods without any. What two relays add that have the
// same TLS and nothing else is said beside it: it is what the machine takes for the hops, whoever makes them.
func nodeRR(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newNodeStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	control, err := s.relays(ctx, "relay-tls", portEcho)
	if err != nil {
		return result{}, err
	}
	apps, to := [2]*nodeApp{s.client, s.plainClient}, [2]string{s.through, s.direct}
	var middles, tails sides
	var relayed []float64
	for round := range nodeRRRounds {
		var middle, tail sides
		err := alternate(nodeRRSlices, func(side int) error {
			found, err := apps[side].do(ctx, requests(to[side], nodeRRSlice))
			if err != nil {
				return err
			}
			middle[side] = append(middle[side], percentile(found.Took, 50)/1000)
			tail[side] = append(tail[side], percentile(found.Took, 90)/1000)
			return nil
		})
		if err != nil {
			return result{}, err
		}
		bare := requests("", nodeRRSlice)
		bare.To = control.address
		found, err := control.client.do(ctx, bare)
		if err != nil {
			return result{}, err
		}
		relayed = append(relayed, percentile(found.Took, 50)/1000)
		middles.add(middle, fastTime)
		tails.add(tail, fastTime)
		p50, knownP50 := middles.last()
		p90, knownP90 := tails.last()
		fmt.Fprintf(out, "round %d: through proxies p50 %.3f ms, p90 %.3f ms; direct p50 %.3f ms, p90 %.3f ms\n", round+1, p50, p90, knownP50, knownP90)
	}
	fmt.Fprintf(out, "two TLS relays in place of the proxies: p50 %.3f ms, which is %.3f ms more than direct\n", median(relayed), median(relayed)-median(middles[1]))
	return absolute(out, added("p50", middles, nodeRRMiddle), added("p90", tails, nodeRRTail)), nil
}

// added is a figure of how much longer ours takes than the control, in ms.
func added(what string, s sides, goal float64) figure {
	extra := make([]float64, len(s[0]))
	for i := range extra {
		extra[i] = s[0][i] - s[1][i]
	}
	known := median(s[1])
	return figure{What: "added latency, " + what, Unit: "ms", Ours: median(extra), Control: &known, Against: "direct takes", Goal: goal}
}

func requests(to string, d time.Duration) appOrder {
	return appOrder{Do: "requests", To: net.JoinHostPort(to, portEcho), Connections: nodeConnections, PerSecond: nodeRate, For: d}
}

// nodeCost is what each proxy uses at that load, and what each of two relays does that have the same TLS and nothing else.
func nodeCost(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newNodeStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	control, err := s.relays(ctx, "relay-tls", portEcho)
	if err != nil {
		return result{}, err
	}
	apps := [2]*nodeApp{s.client, control.client}
	orders := [2]appOrder{requests(s.through, nodeCostFor), requests("", nodeCostFor)}
	orders[1].To = control.address
	pairs := [2][2]*rig.Process{{s.proxies[0].Process, s.proxies[1].Process}, control.processes}
	var cores, memory sides
	for side := range apps { // not the first connection's price
		warm := orders[side]
		warm.For = time.Second
		if _, err := apps[side].do(ctx, warm); err != nil {
			return result{}, err
		}
	}
	for round := range nodeCostRounds {
		var worst, most sides
		err := alternate(1, func(side int) error {
			var used [2]time.Duration
			resident := 0.0
			before, err := usages(pairs[side])
			if err != nil {
				return err
			}
			found, err := apps[side].do(ctx, orders[side])
			if err != nil {
				return err
			}
			after, err := usages(pairs[side])
			if err != nil {
				return err
			}
			for i := range used {
				used[i] = after[i].Processor - before[i].Processor
				resident = max(resident, float64(after[i].Resident)/1e6)
			}
			fmt.Fprintf(out, "round %d, %s: %.0f requests/s, %.3f and %.3f cores, at most %.1f MB\n", round+1, [2]string{"proxies", "TLS relays"}[side],
				float64(len(found.Took))/found.Wall.Seconds(), used[0].Seconds()/found.Wall.Seconds(), used[1].Seconds()/found.Wall.Seconds(), resident)
			worst[side] = append(worst[side], max(used[0], used[1]).Seconds()/found.Wall.Seconds())
			most[side] = append(most[side], resident)
			return nil
		})
		if err != nil {
			return result{}, err
		}
		cores.add(worst, middling)
		memory.add(most, middling)
	}
	value, known := cores.medians()
	resident, knownResident := memory.medians()
	return absolute(out,
		figure{What: "processor of the busier proxy", Unit: "cores", Ours: value, Control: &known, Against: "a TLS relay", Goal: nodeCostProcessor},
		figure{What: "memory of the larger proxy", Unit: "MB", Ours: resident, Control: &knownResident, Against: "a TLS relay", Goal: nodeCostMemory},
	), nil
}

func usages(all [2]*rig.Process) (found [2]rig.Usage, err error) {
	for i, p := range all {
		if found[i], err = p.Usage(); err != nil {
			return found, err
		}
	}
	return found, nil
}
