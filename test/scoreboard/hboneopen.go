// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	openRounds  = 7
	openSlices  = 10  // of each side per round
	openWarm    = 50  // streams unmeasured before each slice
	openAlone   = 200 // streams one after the other per slice
	openAtOnce  = 8   // openers
	openEach    = 100 // streams of each opener per slice
	openGoal    = 2.0 // times as many a second as x/net, at least
	openLatency = 60  // µs at the median, one after the other, at most
)

// hboneOpen opens streams on a warm connection, sends a byte each way on each, and closes it. The client ends its direction behind its byte, as one that
// asks and waits does; the server answers with the byte and ends its own; both read io.EOF, so nothing is reset. x/net does the same.
func hboneOpen(ctx context.Context, out io.Writer) (result, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	client, server, err := l.hboneOverTCP(ctx)
	if err != nil {
		return result{}, err
	}
	l.serve(ours, func() { answerAll(ctx, server) })
	known, err := l.xnetPair(ctx, func(s io.ReadWriter) {
		_ = answerByte(s) // the client will miss the byte
	})
	if err != nil {
		return result{}, err
	}
	visits := [2]func() error{
		func() error {
			s, _, err := client.Open(ctx, authority, nil)
			if err != nil {
				return err
			}
			return errors.Join(askByte(s), s.Close())
		},
		func() error {
			s, err := known.open(ctx)
			if err != nil {
				return err
			}
			return errors.Join(askByte(s), s.Close())
		},
	}

	var middles, rates sides
	for round := range openRounds {
		var middle, rate sides
		err := alternate(openSlices, func(side int) error {
			if err := times(openWarm, visits[side]); err != nil {
				return err
			}
			alone := make([]float64, 0, openAlone)
			err := times(openAlone, func() error {
				began := time.Now()
				err := visits[side]()
				alone = append(alone, microseconds(time.Since(began)))
				return err
			})
			if err != nil {
				return err
			}
			middle[side] = append(middle[side], percentile(alone, 50))
			openers := slices.Repeat([]func() error{func() error { return times(openEach, visits[side]) }}, openAtOnce)
			s, err := spend(func() error { return together(openers...) })
			rate[side] = append(rate[side], openAtOnce*openEach/s.wall.Seconds())
			return err
		})
		if err != nil {
			return result{}, err
		}
		middles.add(middle, fastTime)
		rates.add(rate, fastRate)
		r, knownR := rates.last()
		p50, knownP50 := middles.last()
		fmt.Fprintf(out, "round %d: HBONE %.0f streams/s, alone p50 %.1f µs; x/net %.0f streams/s, alone p50 %.1f µs\n", round+1, r, p50, knownR, knownP50)
	}
	r, knownR := rates.medians()
	p50, knownP50 := middles.medians()
	return ratio(out, openGoal,
		atLeast("streams, 8 openers", "/s", r, knownR, "x/net", openGoal),
		figure{What: "one stream, median", Unit: "µs", Ours: p50, Control: &knownP50, Against: "x/net", Goal: openLatency},
	), nil
}

// answerAll accepts and answers every stream until the connection ends.
func answerAll(ctx context.Context, c *hbone.Conn) {
	for {
		r, err := c.Accept(ctx)
		if err != nil {
			return
		}
		go func() {
			s, err := r.Accept(nil)
			if err != nil {
				return
			}
			defer s.Close()
			_ = answerByte(s) // the client will miss the byte
		}()
	}
}

// answerByte sends the byte that comes back, and waits for the end. Its caller ends our direction.
func answerByte(s io.ReadWriter) error {
	var b [1]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return err
	}
	if _, err := s.Write(b[:]); err != nil {
		return err
	}
	return atEnd(s)
}

// askByte is the client's side of answerByte.
func askByte(s interface {
	io.ReadWriter
	CloseWrite() error
}) error {
	var b [1]byte
	if _, err := s.Write(b[:]); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return err
	}
	return atEnd(s)
}

var errMore = errors.New("more bytes than were sent")

func atEnd(r io.Reader) error {
	var b [1]byte
	switch n, err := r.Read(b[:]); {
	case n > 0 || err == nil:
		return errMore
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// times runs f n times.
func times(n int, f func() error) error {
	for range n {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}
