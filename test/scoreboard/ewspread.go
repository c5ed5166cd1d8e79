// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math"
)

const (
	ewRemotePods = 10
	ewAtOnce     = 16

	ewHandshakeConnections = 10_000
	ewHandshakeGoal        = 40 // handshakes, at most

	ewSpreadConnections = 100_000
	ewSpreadGoal        = 1.10 // times the mean, for the busiest pod at most

	ewWeightConnections = 100_000
	ewWeightGoal        = 0.01 // that each cluster's share may be off its part, of all
)

// ewHandshakes counts the TLS handshakes that the client's proxy makes, outer and inner ones, for connections to a service whose pods are all in another cluster.
func ewHandshakes(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newEWStage(ctx, ewShape{}, ewShape{pods: ewRemotePods, gateways: 1})
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	counts, err := s.visits(ctx, ewHandshakeConnections, ewAtOnce)
	if err != nil {
		return result{}, err
	}
	const name = "isthmus_outbound_handshakes_total"
	inner, err := s.metric(ctx, name, `tunnel="inner"`)
	if err != nil {
		return result{}, err
	}
	outer, err := s.metric(ctx, name, `tunnel="outer"`)
	if err != nil {
		return result{}, err
	}
	fmt.Fprintf(out, "%d connections, %d at once: %.0f handshakes with gateways, %.0f with pods; each pod's share %v\n",
		ewHandshakeConnections, ewAtOnce, outer, inner, counts)
	if inner < 1 || outer < 1 {
		return result{}, fmt.Errorf("%v inner and %v outer handshakes: not counted", inner, outer)
	}
	control := float64(ewHandshakeConnections + 1) // a session for each connection, as without the extension
	return absolute(out, figure{
		What: "TLS handshakes", Unit: "handshakes", Ours: inner + outer, Control: &control, Against: "a session each", Goal: ewHandshakeGoal,
	}), nil
}

// ewSpread counts which of the remote pods many connections reach.
func ewSpread(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newEWStage(ctx, ewShape{}, ewShape{pods: ewRemotePods, gateways: 1})
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	counts, err := s.visits(ctx, ewSpreadConnections, ewAtOnce)
	if err != nil {
		return result{}, err
	}
	busiest, total := 0, 0
	for _, n := range counts {
		busiest, total = max(busiest, n), total+n
	}
	fmt.Fprintf(out, "%d connections, %d at once: %v\n", total, ewAtOnce, counts)
	return absolute(out, figure{
		What: "busiest pod, of the mean", Unit: "×", Ours: float64(busiest) * ewRemotePods / float64(total), Goal: ewSpreadGoal,
	}), nil
}

// ewWeights counts which clusters connections reach, the client's own among them, that have different numbers of pods behind two gateways each.
func ewWeights(ctx context.Context, out io.Writer) (_ result, err error) {
	shapes := []ewShape{{3, 2}, {5, 2}, {9, 2}}
	s, err := newEWStage(ctx, shapes...)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	counts, err := s.visits(ctx, ewWeightConnections, ewAtOnce)
	if err != nil {
		return result{}, err
	}
	reached := make([]int, len(shapes))
	total := 0
	for i, n := range counts {
		reached[s.pods[i].cluster] += n
		total += n
	}
	worst := 0.0
	for i, shape := range shapes {
		share, part := float64(reached[i])/float64(total), float64(shape.pods)/float64(len(s.pods))
		worst = max(worst, math.Abs(share-part))
		fmt.Fprintf(out, "cluster %d: %d of %d pods, %.4f of the connections, which should be %.4f\n", i, shape.pods, len(s.pods), share, part)
	}
	fmt.Fprintf(out, "each pod: %v\n", counts)
	return absolute(out, figure{What: "share that is furthest off its part", Unit: "of all", Ours: worst, Goal: ewWeightGoal}), nil
}
