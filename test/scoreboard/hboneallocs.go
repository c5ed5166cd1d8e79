// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	allocRounds = 5
	allocBulk   = 256 << 20 // bytes per round
	allocTrips  = 10_000    // round trips per round
	// allocGoal is how many allocations for a DATA frame are taken for none: one in a hundred frames is the runtime's or the measurement's own.
	allocGoal = 0.01
)

// hboneAllocs counts heap allocations of the whole process, both ends and TLS, while one stream is busy.
//
// The frames are not counted on the wire, where TLS hides them, but reckoned from below, so that the figure is an upper bound: bulk has at least one
// frame for each WriteFrameSize of its bytes, for none may be larger; in ping-pong every message is one frame, for each waits for the answer to the
// last. The control is bare TLS with as many bytes, by the same reckoning.
func hboneAllocs(ctx context.Context, out io.Writer) (result, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	client, server, err := l.hboneOverTCP(ctx)
	if err != nil {
		return result{}, err
	}
	x, y, err := l.bareTLS(ctx)
	if err != nil {
		return result{}, err
	}
	bulk, bulkOther, err := openStream(ctx, client, server)
	if err != nil {
		return result{}, err
	}
	chat, chatOther, err := openStream(ctx, client, server)
	if err != nil {
		return result{}, err
	}
	l.serve(ours, func() { echo(chatOther) })
	subject := newPath([]*hbone.Stream{bulk}, []*hbone.Stream{bulkOther})
	known := newPath([]io.Writer{x}, []io.Reader{y})
	largest := min(hbone.DefaultSettings().WriteFrameSize, int(hbone.DefaultSettings().MaxFrameSize))
	chatOn := func(s io.ReadWriter) func() error {
		return func() error { return pingPong(s, allocTrips, nil) }
	}

	// TLS chats after its bulk is over, on the same connection.
	var bulks, chats [2][]float64
	for round := range allocRounds {
		for side, p := range []*path{subject, known} {
			n, err := allocations(func() error { return p.send(allocBulk) })
			if err != nil {
				return result{}, err
			}
			bulks[side] = append(bulks[side], n/float64(allocBulk/largest))
		}
		fmt.Fprintf(out, "round %d: bulk: HBONE %.4f, TLS %.4f allocations per frame of %d KiB\n", round+1, bulks[0][round], bulks[1][round], largest>>10)
	}
	l.serve(control, func() { echo(y) })
	for round := range allocRounds {
		for side, s := range []io.ReadWriter{chat, x} {
			n, err := allocations(chatOn(s))
			if err != nil {
				return result{}, err
			}
			chats[side] = append(chats[side], n/(2*allocTrips))
		}
		fmt.Fprintf(out, "round %d: ping-pong: HBONE %.4f, TLS %.4f allocations per frame of %d B\n", round+1, chats[0][round], chats[1][round], message)
	}
	none := func(what string, v [2][]float64) figure {
		known := median(v[1])
		return figure{What: what, Unit: "per frame", Ours: median(v[0]), Control: &known, Against: "TLS", Goal: allocGoal, Rule: "taken for none"}
	}
	bulkFigure, chatFigure := none("allocations, bulk", bulks), none("allocations, ping-pong", chats)
	if chatFigure.Ours > bulkFigure.Ours {
		bulkFigure, chatFigure = chatFigure, bulkFigure // the worse one speaks for the row
	}
	return absolute(out, bulkFigure, chatFigure), nil
}

// allocations counts the heap objects that the process allocates while f runs a second time: the first fills pools and grows buffers.
func allocations(f func() error) (float64, error) {
	if err := f(); err != nil {
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs), err
}
