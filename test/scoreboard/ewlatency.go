// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	ewRounds = 5
	ewSlices = 6 // of each side per round

	ewExistingSlice = time.Second
	ewExistingGoal  = 0.10 // ms that the other cluster may take longer, at the median

	ewNewWarm = 20  // connections unmeasured before each slice
	ewNewEach = 100 // connections one after the other per slice
	ewNewGoal = 0.3 // ms that the other cluster may take longer, at the median
)

// ewExisting sends 1 KiB to and fro, a thousand times a second, to another cluster and to another node of the client's own.
func ewExisting(ctx context.Context, out io.Writer) (result, error) {
	return ewLatency(ctx, out, "p50 of a request", portEcho, ewExistingGoal, func(client *nodeApp, to string) ([]float64, error) {
		found, err := client.do(ctx, requests(to, ewExistingSlice))
		return found.Took, err
	})
}

// ewNew opens connections for a byte, one after the other, to another cluster and to another node of the client's own.
func ewNew(ctx context.Context, out io.Writer) (result, error) {
	return ewLatency(ctx, out, "p50 of a new connection", portByte, ewNewGoal, func(client *nodeApp, to string) ([]float64, error) {
		order := appOrder{Do: "visit", To: net.JoinHostPort(to, portByte), Each: ewNewWarm}
		if _, err := client.do(ctx, order); err != nil {
			return nil, err
		}
		order.Each = ewNewEach
		found, err := client.do(ctx, order)
		return found.Took, err
	})
}

// ewLatency compares what a slice of work at a port takes, in µs for each thing done, between the other cluster and the client's own. What is added through TCP relays in place of proxies and gateway
// is said beside it: it is what the machine takes for one hop more, whoever makes it.
func ewLatency(ctx context.Context, out io.Writer, what, port string, goal float64, slice func(client *nodeApp, to string) ([]float64, error)) (_ result, err error) {
	s, err := newEWPair(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	chain, err := s.chain(ctx, port)
	if err != nil {
		return result{}, err
	}
	clients := [2]*nodeApp{s.client, chain.client}
	to := [2][2]string{{s.remote, s.local}, {chain.remote, chain.local}}
	var both [2]sides // the mesh, and the relays
	for round := range ewRounds {
		var middles [2]sides
		err := alternate(ewSlices, func(side int) error {
			for i, client := range clients {
				took, err := slice(client, to[i][side])
				if err != nil {
					return err
				}
				middles[i][side] = append(middles[i][side], percentile(took, 50)/1000)
			}
			return nil
		})
		if err != nil {
			return result{}, err
		}
		for i := range both {
			both[i].add(middles[i], fastTime)
		}
		remote, local := both[0].last()
		chainRemote, chainLocal := both[1].last()
		fmt.Fprintf(out, "round %d: other cluster p50 %.3f ms, own cluster p50 %.3f ms; through TCP relays %.3f and %.3f ms\n", round+1, remote, local, chainRemote, chainLocal)
	}
	relayed := added("", both[1], goal)
	fmt.Fprintf(out, "through TCP relays in place of proxies and gateway, the other cluster adds %.3f ms to %.3f ms\n", relayed.Ours, *relayed.Control)
	f := added(what, both[0], goal)
	f.Against = "in the own cluster it takes"
	return absolute(out, f), nil
}
