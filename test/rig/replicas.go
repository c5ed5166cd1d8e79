// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Replicas are the pods of one Gateway behind one address, as its Deployment and Service would have them.
type Replicas struct {
	// Address is where other clusters reach them: the node's.
	Address netip.Addr

	node    *Node
	name    string
	flags   []string
	current []*Gateway // that the address leads to
	old     []*Gateway // that were told to end
	free    []*Gateway // whose processes have ended: their pods may be used again
	pods    int
}

// StartReplicas adds an east-west Gateway to the node's cluster and a number of processes on the node, and waits until they serve; flags are added to theirs. Nobody
// else may listen on the gateway's port at the node's address.
func (n *Node) StartReplicas(ctx context.Context, name string, number int, flags ...string) (*Replicas, error) {
	r := &Replicas{Address: n.Address, node: n, name: name, flags: flags}
	n.putGateway(name, r.Address)
	n.Cluster.rig.Publish()
	for range number {
		g, err := r.add(ctx)
		if err != nil {
			return nil, err
		}
		r.current = append(r.current, g)
	}
	return r, r.lead(ctx)
}

// add starts a process in a pod of its own, and waits until it serves.
func (r *Replicas) add(ctx context.Context) (g *Gateway, err error) {
	if n := len(r.free); n > 0 {
		g, r.free = r.free[n-1], r.free[:n-1]
	} else {
		r.pods++
		if g, err = r.node.gatewayPod(SystemNamespace, r.name, fmt.Sprintf("%s-%d", r.name, r.pods)); err != nil {
			return nil, err
		}
		g.Address = r.Address
	}
	if err := g.Restart(ctx, r.flags...); err != nil {
		return nil, err
	}
	return g, g.Ready(ctx)
}

// lead has new connections to the address go to the current pods by turns, as kube-proxy does. Those that there are stay where they are.
func (r *Replicas) lead(ctx context.Context) error {
	turns := make([]string, len(r.current))
	for i, g := range r.current {
		turns[i] = fmt.Sprintf("%d : %v", i, g.Pod.Address)
	}
	return r.node.Space.Filter(ctx, fmt.Sprintf("add table ip replicas; delete table ip replicas; add table ip replicas; "+
		"add chain ip replicas in { type nat hook prerouting priority -100 ; }; "+
		"add rule ip replicas in ip daddr %v tcp dport %d dnat to numgen inc mod %d map { %s }", r.Address, gatewayPort, len(turns), strings.Join(turns, ", ")))
}

// Restart replaces all pods, one after the other: a new one serves before an old one is told to end, and the address leads to the one no more from then on. replaced is called
// after each. An old one goes on for as long as it has streams.
func (r *Replicas) Restart(ctx context.Context, replaced func()) error {
	for i, old := range slices.Clone(r.current) {
		next, err := r.add(ctx)
		if err != nil {
			return err
		}
		r.current[i] = next
		// Who is told to end goes on for a moment, as nobody can tell all who send it connections at once.
		if err := old.Stop(); err != nil {
			return err
		}
		if err := r.lead(ctx); err != nil {
			return err
		}
		r.old = append(r.old, old)
		replaced()
	}
	return r.release()
}

// release takes back the pods of processes that have ended, in order: one that failed would have lost its streams.
func (r *Replicas) release() error {
	var left []*Gateway
	var errs []error
	for _, g := range r.old {
		select {
		case <-g.Ended():
			if err := g.Wait(); err != nil {
				errs = append(errs, fmt.Errorf("gateway that was told to end: %w; see %s", err, g.Log))
			}
			r.free = append(r.free, g)
		default:
			left = append(left, g)
		}
	}
	r.old = left
	return errors.Join(errs...)
}

// Draining is how many were told to end and have streams still.
func (r *Replicas) Draining() int { return len(r.old) }

// Drained waits until none drains any more.
func (r *Replicas) Drained(ctx context.Context) error {
	for _, g := range r.old {
		select {
		case <-g.Ended():
		case <-ctx.Done():
			return fmt.Errorf("a gateway without streams does not end: %w", ctx.Err())
		}
	}
	return r.release()
}
