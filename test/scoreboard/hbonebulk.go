// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	flowRounds = 15
	flowSlices = 16       // of each side per round
	flowSlice  = 16 << 20 // bytes: short against the neighbours' moods, long against starting and stopping
	flowWarm   = 12 << 20 // bytes unmeasured before each slice: windows and buffers have grown after 10 MiB
	costGoal   = 1.10     // times the control's processor time, at most
	speedGoal  = 0.95     // times the control's bytes per second, at least
)

// hboneBulk sends through one stream.
func hboneBulk(ctx context.Context, out io.Writer) (result, error) { return bulkStreams(ctx, out, 1) }

// hboneBulk8 sends through eight streams of one connection at once.
func hboneBulk8(ctx context.Context, out io.Writer) (result, error) { return bulkStreams(ctx, out, 8) }

// bulkStreams compares streams of one connection with one connection of bare TLS that has as many writers, each with a block of its own, and one
// reader. The writers take turns at the lock of tls.Conn, block by block: what they would do without streams, and as cheap as one writer alone. There is
// one reader because nothing says to whom a record belongs; to say so is what HBONE is measured for.
func bulkStreams(ctx context.Context, out io.Writer, streams int) (result, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	client, server, err := l.hboneOverTCP(ctx)
	if err != nil {
		return result{}, err
	}
	var near, far []*hbone.Stream
	for range streams {
		n, f, err := openStream(ctx, client, server)
		if err != nil {
			return result{}, err
		}
		near, far = append(near, n), append(far, f)
	}
	x, y, err := l.bareTLS(ctx)
	if err != nil {
		return result{}, err
	}
	shared := make([]io.Writer, streams)
	for i := range shared {
		shared[i] = x
	}
	cost, speed, err := compareFlow(out, newPath(near, far), newPath(shared, []io.Reader{y}), "TLS")
	if err != nil {
		return result{}, err
	}
	return ratio(out, costGoal, cost, speed), nil
}

// compareFlow gives processor time per byte and throughput of two paths.
func compareFlow(out io.Writer, subject, known *path, against string) (cost, speed figure, err error) {
	var costs, speeds sides
	for round := range flowRounds {
		var cost, speed sides
		err := alternate(flowSlices, func(side int) error {
			p := [...]*path{subject, known}[side]
			if err := p.send(flowWarm); err != nil {
				return err
			}
			s, err := spend(func() error { return p.send(flowSlice) })
			cost[side] = append(cost[side], s.perGB(flowSlice))
			speed[side] = append(speed[side], s.speed(flowSlice))
			return err
		})
		if err != nil {
			return figure{}, figure{}, err
		}
		costs.add(cost, middling)
		speeds.add(speed, fastRate)
		c, knownC := costs.last()
		s, knownS := speeds.last()
		fmt.Fprintf(out, "round %d: HBONE %.2f CPU-s/GB at %.2f GB/s, %s %.2f CPU-s/GB at %.2f GB/s\n", round+1, c, s, against, knownC, knownS)
	}
	c, knownC := costs.medians()
	s, knownS := speeds.medians()
	return atMost("processor time", "s/GB", c, knownC, against, costGoal), atLeast("throughput", "GB/s", s, knownS, against, speedGoal), nil
}
