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
	return ewLatency(ctx, out, "p50 of a request", ewExistingGoal, func(s *ewPair, to string) ([]float64, error) {
		found, err := s.client.do(ctx, requests(to, ewExistingSlice))
		return found.Took, err
	})
}

// ewNew opens connections for a byte, one after the other, to another cluster and to another node of the client's own.
func ewNew(ctx context.Context, out io.Writer) (result, error) {
	return ewLatency(ctx, out, "p50 of a new connection", ewNewGoal, func(s *ewPair, to string) ([]float64, error) {
		order := appOrder{Do: "visit", To: net.JoinHostPort(to, portByte), Each: ewNewWarm}
		if _, err := s.client.do(ctx, order); err != nil {
			return nil, err
		}
		order.Each = ewNewEach
		found, err := s.client.do(ctx, order)
		return found.Took, err
	})
}

// ewLatency compares what a slice of work takes, in µs for each thing done, between the other cluster and the client's own.
func ewLatency(ctx context.Context, out io.Writer, what string, goal float64, slice func(s *ewPair, to string) ([]float64, error)) (_ result, err error) {
	s, err := newEWPair(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	to := [2]string{s.remote, s.local}
	var middles sides
	for round := range ewRounds {
		var middle sides
		err := alternate(ewSlices, func(side int) error {
			took, err := slice(s, to[side])
			if err != nil {
				return err
			}
			middle[side] = append(middle[side], percentile(took, 50)/1000)
			return nil
		})
		if err != nil {
			return result{}, err
		}
		middles.add(middle, fastTime)
		remote, local := middles.last()
		fmt.Fprintf(out, "round %d: other cluster p50 %.3f ms, own cluster p50 %.3f ms\n", round+1, remote, local)
	}
	f := added(what, middles, goal)
	f.Against = "in the own cluster it takes"
	return absolute(out, f), nil
}
