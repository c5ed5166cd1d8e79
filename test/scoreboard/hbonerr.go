// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	message = 1 << 10 // bytes, each way

	rrRounds = 7
	rrSlices = 16   // of each side per round
	rrTrips  = 1000 // per slice, whose percentiles count
	rrWarm   = 100  // round trips unmeasured before each slice: the caches were the other side's

	rrExtra = 10.0 // µs that a round trip may take more than over TLS, at the median
	rrTail  = 1.3  // times the 99th percentile of TLS, at most

	rr64Streams = 64
	rr64Rounds  = 7
	rr64Slices  = 10 // of each side per round
	rr64Trips   = 60 // on each stream per slice
	rr64Warm    = 10
	rr64Goal    = 1.5 // times as many a second as x/net, at least
)

// hboneRR sends 1 KiB to and fro on one stream, and on bare TLS.
func hboneRR(ctx context.Context, out io.Writer) (result, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	client, server, err := l.hboneOverTCP(ctx)
	if err != nil {
		return result{}, err
	}
	near, far, err := openStream(ctx, client, server)
	if err != nil {
		return result{}, err
	}
	x, y, err := l.bareTLS(ctx)
	if err != nil {
		return result{}, err
	}
	l.serve(ours, func() { echo(far) })
	l.serve(control, func() { echo(y) })

	var middles, tails sides
	for round := range rrRounds {
		var middle, tail sides
		err := alternate(rrSlices, func(side int) error {
			s := [...]io.ReadWriter{near, x}[side]
			if err := pingPong(s, rrWarm, nil); err != nil {
				return err
			}
			took := make([]float64, 0, rrTrips)
			err := pingPong(s, rrTrips, func(d time.Duration) { took = append(took, microseconds(d)) })
			if err != nil {
				return err
			}
			middle[side] = append(middle[side], percentile(took, 50))
			tail[side] = append(tail[side], percentile(took, 99))
			return nil
		})
		if err != nil {
			return result{}, err
		}
		middles.add(middle, fastTime)
		tails.add(tail, fastTime)
		p50, knownP50 := middles.last()
		p99, knownP99 := tails.last()
		fmt.Fprintf(out, "round %d: HBONE p50 %.1f µs, p99 %.1f µs; TLS p50 %.1f µs, p99 %.1f µs\n", round+1, p50, p99, knownP50, knownP99)
	}
	p50, knownP50 := middles.medians()
	p99, knownP99 := tails.medians()
	middle := atMost("round trip, median", "µs", p50, knownP50, "TLS", 1)
	middle.Goal += rrExtra
	middle.Rule = fmt.Sprintf("TLS + %.0f µs", rrExtra)
	return absolute(out, middle, atMost("round trip, p99", "µs", p99, knownP99, "TLS", rrTail)), nil
}

// hboneRR64 does so on 64 streams of one connection at once, and on 64 streams of x/net's.
func hboneRR64(ctx context.Context, out io.Writer) (result, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	client, server, err := l.hboneOverTCP(ctx)
	if err != nil {
		return result{}, err
	}
	known, err := l.xnetPair(ctx, echo)
	if err != nil {
		return result{}, err
	}
	var streams [2][]io.ReadWriter
	for range rr64Streams {
		near, far, err := openStream(ctx, client, server)
		if err != nil {
			return result{}, err
		}
		l.serve(ours, func() { echo(far) })
		s, err := known.open(ctx)
		if err != nil {
			return result{}, err
		}
		l.keep(s)
		streams[0], streams[1] = append(streams[0], near), append(streams[1], s)
	}
	const trips = rr64Streams * rr64Trips
	var rates, costs sides
	for round := range rr64Rounds {
		var rate, cost sides
		err := alternate(rr64Slices, func(side int) error {
			if err := pingPongAll(streams[side], rr64Warm); err != nil {
				return err
			}
			s, err := spend(func() error { return pingPongAll(streams[side], rr64Trips) })
			rate[side] = append(rate[side], trips/s.wall.Seconds())
			cost[side] = append(cost[side], microseconds(s.processor)/trips)
			return err
		})
		if err != nil {
			return result{}, err
		}
		rates.add(rate, fastRate)
		costs.add(cost, middling)
		r, knownR := rates.last()
		c, knownC := costs.last()
		fmt.Fprintf(out, "round %d: HBONE %.0f/s at %.1f CPU-µs each, x/net %.0f/s at %.1f CPU-µs each\n", round+1, r, c, knownR, knownC)
	}
	cost, knownCost := costs.medians()
	fmt.Fprintf(out, "processor time: %.1f µs, x/net %.1f µs per round trip; no goal\n", cost, knownCost)
	rate, knownRate := rates.medians()
	return ratio(out, rr64Goal, atLeast("round trips, 64 streams", "/s", rate, knownRate, "x/net", rr64Goal)), nil
}

// echo answers each message with itself until the stream ends.
func echo(s io.ReadWriter) {
	b := make([]byte, message)
	for {
		if _, err := io.ReadFull(s, b); err != nil {
			return
		}
		if _, err := s.Write(b); err != nil {
			return
		}
	}
}

// pingPong sends n messages, each after the answer to the last, and tells how long each took if took is not nil.
func pingPong(s io.ReadWriter, n int, took func(time.Duration)) error {
	b := make([]byte, message)
	began := time.Now()
	for range n {
		if _, err := s.Write(b); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if _, err := io.ReadFull(s, b); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if took != nil {
			now := time.Now()
			took(now.Sub(began))
			began = now
		}
	}
	return nil
}

// pingPongAll does so on all of them at once.
func pingPongAll(streams []io.ReadWriter, n int) error {
	all := make([]func() error, len(streams))
	for i, s := range streams {
		all[i] = func() error { return pingPong(s, n, nil) }
	}
	return together(all...)
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
