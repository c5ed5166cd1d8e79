// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	rollTimes    = 100 // of all replicas
	rollReplicas = 2
	rollStreams  = 500
	rollVisits   = 200 // new connections a second
	// rollSettle is how long a pod that was told to end may still be sent connections; of the product it is 5 s.
	rollSettle = "2s"
	// rollFewest is the share of visits that a busy machine must have had time for, lest nothing was tried.
	rollFewest = 0.25
)

// ewRoll restarts the gateway of a cluster again and again, as its Deployment does: a new pod serves before an old one is told to end. Meanwhile streams to the cluster go
// on that live through the replacement of two pods each, and new connections are made all the time. A pod that was told to end goes on for as long as it has streams.
func ewRoll(ctx context.Context, out io.Writer) (_ result, err error) {
	r, err := rig.New()
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	east, west := r.Cluster("east"), r.Cluster("west")
	global := map[string]string{"istio.io/global": "true"}
	var pods []*rig.Pod
	var nodes []*rig.Node
	for _, c := range []*rig.Cluster{east, west} {
		n, err := c.Node()
		if err != nil {
			return result{}, err
		}
		if err := n.Masquerade(ctx); err != nil {
			return result{}, err
		}
		proxy, err := n.StartProxy(ctx, rig.ProxyOptions{})
		if err != nil {
			return result{}, err
		}
		pod, err := n.EnrolledPod(ctx, "traffic")
		if err != nil {
			return result{}, err
		}
		r.Publish()
		if err := proxy.Ready(ctx); err != nil {
			return result{}, err
		}
		nodes, pods = append(nodes, n), append(pods, pod)
	}
	at := east.Service("cart", global, []uint16{rig.TrafficPort})
	west.Service("cart", global, []uint16{rig.TrafficPort}, pods[1])
	gateways, err := nodes[1].StartReplicas(ctx, "eastwest", rollReplicas, "--settle="+rollSettle)
	if err != nil {
		return result{}, err
	}
	r.Publish()
	t, err := rig.StartTraffic(ctx, pods[0], pods[1], at, rollStreams, rollVisits)
	if err != nil {
		return result{}, err
	}
	for t.Open() < rollStreams {
		if c := t.Counts(); c.Lost+c.Refused > 0 {
			break // it will be told of
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return result{}, err
		}
	}
	began := time.Now()
	for i := range often(ctx, rollTimes) {
		if err := gateways.Restart(ctx, t.Next); err != nil {
			return result{}, err
		}
		c := t.Counts()
		fmt.Fprintf(out, "restart %d: %d streams open, %d old gateways drain; %d streams and %d visits ended in order, %d lost, %d refused\n",
			i+1, t.Open(), gateways.Draining(), c.Streams, c.Visits, c.Lost, c.Refused)
	}
	c, faults := t.Stop()
	took := time.Since(began)
	if faults != nil {
		fmt.Fprintln(out, faults)
	}
	if err := gateways.Drained(ctx); err != nil {
		return result{}, err
	}
	return absolute(out,
		figure{What: "connections lost", Ours: float64(c.Lost)},
		figure{What: "connections refused", Ours: float64(c.Refused)},
		figure{What: "streams that lived through restarts", Ours: float64(c.Streams), Goal: rollStreams, AtLeast: true},
		figure{What: "new connections", Unit: "/s", Ours: float64(c.Visits) / took.Seconds(), Goal: rollFewest * rollVisits, AtLeast: true},
	), nil
}
