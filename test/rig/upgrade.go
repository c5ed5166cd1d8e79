// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Rollout replaces the proxies of nodes, one after the other, under traffic.
type Rollout struct {
	Traffic *Traffic
	Nodes   []*Node
	// Options are those of every proxy.
	Options ProxyOptions

	current []*Proxy
	old     []*Proxy // those that were told to end
}

// NewRollout makes a cluster of two nodes with a proxy each, a client on one and a server on the other that are part of the mesh, and starts traffic.
func NewRollout(ctx context.Context, r *Rig, streams int, visitsPerSecond float64, o ProxyOptions) (*Rollout, error) {
	out := &Rollout{Options: o}
	c := r.Cluster("east")
	var pods []*Pod
	for _, name := range []string{"client", "server"} {
		n, err := c.Node()
		if err != nil {
			return nil, err
		}
		p, err := n.StartProxy(ctx, o)
		if err != nil {
			return nil, err
		}
		pod, err := n.EnrolledPod(ctx, name)
		if err != nil {
			return nil, err
		}
		out.Nodes, out.current, pods = append(out.Nodes, n), append(out.current, p), append(pods, pod)
	}
	r.Publish()
	for _, p := range out.current {
		if err := p.Ready(ctx); err != nil {
			return nil, err
		}
	}
	var err error
	out.Traffic, err = StartTraffic(ctx, pods[0], pods[1], pods[1].Address, streams, visitsPerSecond)
	return out, err
}

// Upgrade replaces the proxy of one node: a new process beside the old one, which is told to end as soon as the new one is ready. It tells how long the new one took to
// be ready. The old one goes on for as long as it has streams.
func (o *Rollout) Upgrade(ctx context.Context, node int) (ready time.Duration, err error) {
	began := time.Now()
	next, err := o.Nodes[node].StartProxy(ctx, o.Options)
	if err != nil {
		return 0, err
	}
	if err := next.Ready(ctx); err != nil {
		return 0, err
	}
	ready = time.Since(began)
	if err := o.current[node].Stop(); err != nil {
		return 0, err
	}
	o.old = append(o.old, o.current[node])
	o.current[node] = next
	o.Traffic.Next()
	return ready, o.release()
}

// release lets go of old proxies that have ended, in order: one that failed would have lost its streams.
func (o *Rollout) release() error {
	var left []*Proxy
	var errs []error
	for _, p := range o.old {
		select {
		case <-p.Ended():
			if err := p.Release(); err != nil {
				errs = append(errs, fmt.Errorf("proxy that was told to end: %w; see %s", err, p.Log))
			}
		default:
			left = append(left, p)
		}
	}
	o.old = left
	return errors.Join(errs...)
}

// Draining is how many proxies were told to end and have streams still.
func (o *Rollout) Draining() int { return len(o.old) }

// Finish ends the traffic in order, and waits until no proxy drains any more.
func (o *Rollout) Finish(ctx context.Context) (TrafficCounts, error) {
	counts, faults := o.Traffic.Stop()
	for _, p := range o.old {
		select {
		case <-p.Ended():
		case <-ctx.Done():
			return counts, errors.Join(faults, fmt.Errorf("a proxy without streams does not end: %w", ctx.Err()))
		}
	}
	return counts, errors.Join(faults, o.release())
}
