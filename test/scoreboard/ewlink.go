// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/line"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	ewLinkRounds  = 3
	ewLinkStreams = 8
	ewLinkTime    = 8 * time.Second // of one measurement
	ewLinkBefore  = 3               // times that so many streams are opened before
	ewLinkGoal    = 0.80            // times what plain TCP carries, at least
	ewLinkStarved = time.Second     // at most
	// ewLinkRate is 200 Mbit/s, in bytes: narrow enough that the line is what bounds both sides, and not this machine, which also does the line's work.
	ewLinkRate = 25e6
	// ewLinkBacklog is what routers of that speed are usually given to hold, in time.
	ewLinkBacklog = 50 * time.Millisecond
	// ewLinkSettled is how often it is looked whether all connections of the last measurement have ended at the far end.
	ewLinkSettled = 500 * time.Millisecond
)

var (
	ewLinkLoss = []float64{0, 0.01, 0.05}
	// ewLinkDelays are of the round trip. Each has tunnels of its own, as a way does that is as long from the beginning.
	ewLinkDelays = []time.Duration{200 * time.Millisecond, 50 * time.Millisecond, time.Millisecond}
)

// linkSide is a client and a server, and the way between them.
type linkSide struct {
	client, server *nodeApp
	to             string
}

// ewLink sends over a long, lossy line to another cluster, through two node proxies and a gateway, and as plain TCP from and to places beside those: one stream to see
// how much passes, and several at once to see whether one of them starves.
func ewLink(ctx context.Context, out io.Writer) (result, error) {
	var worst, starved *figure
	for _, delay := range ewLinkDelays {
		if err := longLine(ctx, out, delay, func(one, several figure) {
			if worst == nil || one.Ours / *one.Control < worst.Ours / *worst.Control {
				worst = &one
			}
			if starved == nil || several.Ours > starved.Ours {
				starved = &several
			}
		}); err != nil {
			return result{}, err
		}
	}
	return ratio(out, ewLinkGoal, *worst, *starved), nil
}

// longLine measures with each loss on a line so long, and gives the figures to note.
func longLine(ctx context.Context, out io.Writer, delay time.Duration, note func(one, several figure)) (err error) {
	s, err := newEWPair(ctx)
	if err != nil {
		return err
	}
	defer s.closeWith(&err)
	wire, err := s.near.Wire()
	if err != nil {
		return err
	}
	plain, err := s.plain(ctx)
	if err != nil {
		return err
	}
	sides := [2]linkSide{{s.client, s.server, net.JoinHostPort(s.remote, portPour)}, plain}
	wire.Set(line.Shape{Delay: delay / 2, Rate: ewLinkRate, Backlog: ewLinkBacklog})
	for range ewLinkBefore { // a way that is in use has all of its tunnels
		if _, err := s.client.do(ctx, appOrder{Do: "pour", To: sides[0].to, Connections: ewLinkStreams, For: time.Second}); err != nil {
			return err
		}
	}
	for _, loss := range ewLinkLoss {
		shape := line.Shape{Delay: delay / 2, Loss: loss, Rate: ewLinkRate, Backlog: ewLinkBacklog}
		one, several, err := measureLink(ctx, out, wire, shape, sides)
		if err != nil {
			return err
		}
		note(one, several)
	}
	return nil
}

// measureLink gives what one stream carries, and how long one of several starved.
func measureLink(ctx context.Context, out io.Writer, wire *rig.Wire, shape line.Shape, sides [2]linkSide) (one, several figure, err error) {
	where := fmt.Sprintf("%v, %g %% lost", 2*shape.Delay, 100*shape.Loss)
	var carried, together [2]float64 // MB/s
	var hungry [2]time.Duration
	rounds := often(ctx, ewLinkRounds)
	for range rounds {
		for side := range sides {
			heard, err := sides[side].pour(ctx, wire, shape, 1)
			if err != nil {
				return one, several, err
			}
			carried[side] += speedOf(heard) / float64(rounds)
			if heard, err = sides[side].pour(ctx, wire, shape, ewLinkStreams); err != nil {
				return one, several, err
			}
			together[side] += speedOf(heard) / float64(rounds)
			for _, h := range heard {
				hungry[side] = max(hungry[side], h.Starved)
			}
		}
	}
	fmt.Fprintf(out, "%s: one stream %.3f MB/s, plain TCP %.3f MB/s: %.2f; %d at once %.3f MB/s, plain TCP %.3f MB/s: %.2f; one starved for %.2f s, plain TCP %.2f s\n",
		where, carried[0], carried[1], carried[0]/carried[1], ewLinkStreams, together[0], together[1], together[0]/together[1],
		hungry[0].Seconds(), hungry[1].Seconds())
	one = atLeast("one stream at "+where, "MB/s", carried[0], carried[1], "plain TCP", ewLinkGoal)
	known := hungry[1].Seconds()
	several = figure{
		What: fmt.Sprintf("longest that one of %d streams starved at %s", ewLinkStreams, where), Unit: "s",
		Ours: hungry[0].Seconds(), Control: &known, Against: "plain TCP", Goal: ewLinkStarved.Seconds(),
	}
	return one, several, nil
}

// speedOf is what all of them carried in the time of one measurement, in MB/s.
func speedOf(all []heard) float64 {
	sum := 0
	for _, h := range all {
		sum += h.Bytes
	}
	return float64(sum) / ewLinkTime.Seconds() / 1e6
}

// pour sends for a time, and tells what was heard of it by then.
func (l *linkSide) pour(ctx context.Context, wire *rig.Wire, shape line.Shape, streams int) ([]heard, error) {
	lossless := shape
	lossless.Loss = 0
	wire.Set(lossless) // what is under way of the last measurement arrives
	for quiet := false; !quiet; {
		if err := pause(ctx, ewLinkSettled); err != nil {
			return nil, err
		}
		found, err := l.server.do(ctx, appOrder{Do: "hear"})
		if err != nil {
			return nil, err
		}
		quiet = len(found.Heard) == 0 // each connection has ended, and was asked about since
	}
	wire.Set(shape)
	if _, err := l.client.do(ctx, appOrder{Do: "pour", To: l.to, Connections: streams, For: ewLinkTime}); err != nil {
		return nil, err
	}
	found, err := l.server.do(ctx, appOrder{Do: "hear"})
	return found.Heard, err
}

// plain starts a client and a server that are not in the mesh, on the nodes of those that are, the server with a leg on the fabric.
func (s *ewPair) plain(ctx context.Context) (linkSide, error) {
	from, err := s.near.Pod("plain-client")
	if err != nil {
		return linkSide{}, err
	}
	at, err := s.far.Pod("plain-server")
	if err != nil {
		return linkSide{}, err
	}
	door, err := s.rig.OnFabric(at.Space, "fabric")
	if err != nil {
		return linkSide{}, err
	}
	client, err := startApp(s.rig, from)
	if err != nil {
		return linkSide{}, err
	}
	server, err := startApp(s.rig, at)
	if err != nil {
		return linkSide{}, err
	}
	_, err = server.do(ctx, appOrder{Do: "serve"})
	return linkSide{client, server, net.JoinHostPort(door.String(), portPour)}, err
}
