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
	failoverRounds  = 50
	failoverClients = 16 // half of them with a connection for each question: 160 new connections a second
	// failoverQuiet is how long all must go well until an interruption counts as over.
	failoverQuiet = 1500 * time.Millisecond
	// failoverReturn is how long what was lost may take to be used again: half a minute is the longest for which something is passed over.
	failoverReturn = 90 * time.Second
)

// loss is a way to lose something of a cluster, and to have it back.
type loss struct {
	name string
	goal time.Duration
	take func(ctx context.Context, c *ewCluster, round int) error
	give func(ctx context.Context, c *ewCluster, round int) error
}

var losses = []loss{
	{"nothing is lost", time.Second,
		func(context.Context, *ewCluster, int) error { return nil },
		func(context.Context, *ewCluster, int) error { return nil }},
	{"a gateway is killed", time.Second,
		func(_ context.Context, c *ewCluster, round int) error {
			return c.gateways[round%len(c.gateways)].Kill()
		},
		func(ctx context.Context, c *ewCluster, round int) error {
			return revive(ctx, c.gateways[round%len(c.gateways)])
		}},
	{"the proxy of a cluster's pods is killed", time.Second,
		func(_ context.Context, c *ewCluster, _ int) error { return c.proxy.Kill() },
		func(ctx context.Context, c *ewCluster, _ int) error { return c.newProxy(ctx) }},
	{"a cluster is killed", time.Second,
		func(_ context.Context, c *ewCluster, _ int) error {
			return together(c.gateways[0].Kill, c.gateways[1].Kill, c.proxy.Kill)
		},
		func(ctx context.Context, c *ewCluster, _ int) error {
			if err := c.newProxy(ctx); err != nil {
				return err
			}
			return revive(ctx, c.gateways...)
		}},
	{"a gateway is a black hole", 10 * time.Second,
		func(ctx context.Context, c *ewCluster, round int) error {
			return c.gateways[round%len(c.gateways)].Pod.Swallow(ctx, "fabric", true)
		},
		func(ctx context.Context, c *ewCluster, round int) error {
			return c.gateways[round%len(c.gateways)].Pod.Swallow(ctx, "fabric", false)
		}},
	{"a cluster is a black hole", 10 * time.Second,
		func(ctx context.Context, c *ewCluster, _ int) error {
			return together(func() error { return c.gateways[0].Pod.Swallow(ctx, "fabric", true) }, func() error { return c.gateways[1].Pod.Swallow(ctx, "fabric", true) })
		},
		func(ctx context.Context, c *ewCluster, _ int) error {
			return together(func() error { return c.gateways[0].Pod.Swallow(ctx, "fabric", false) }, func() error { return c.gateways[1].Pod.Swallow(ctx, "fabric", false) })
		}},
}

func revive(ctx context.Context, gateways ...*rig.Gateway) error {
	for _, g := range gateways {
		if err := g.Restart(ctx); err != nil {
			return err
		}
	}
	for _, g := range gateways {
		if err := g.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *ewCluster) newProxy(ctx context.Context) (err error) {
	if c.proxy, err = c.node.StartProxy(ctx, rig.ProxyOptions{}); err != nil {
		return err
	}
	return c.proxy.Ready(ctx)
}

// ewFailover asks a service whose pods are in two other clusters, with two gateways each, while something of one of them is lost, and measures for how long after that
// there were questions that were held up or had to be asked again. No control plane tells anybody: what is lost is found out by who needs it.
func ewFailover(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newEWStage(ctx, ewShape{}, ewShape{pods: 3, gateways: 2}, ewShape{pods: 3, gateways: 2})
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	a := startAsking(ctx, s.client, s.service.String(), failoverClients)
	var figures []figure
	for i := range losses {
		took, err := s.lose(ctx, out, a, &losses[i])
		if err != nil {
			_, _, more := a.end()
			return result{}, errors.Join(err, more, s.complaints())
		}
		if i > 0 {
			figures = append(figures, figure{What: losses[i].name + ": interrupted for (p99)", Unit: "s", Ours: percentile(took, 99), Goal: losses[i].goal.Seconds()})
		} else {
			fmt.Fprintf(out, "control: with nothing lost, questions are held up until %.3f s (p99) after nothing happened\n", percentile(took, 99))
		}
	}
	asked, lost, err := a.end()
	fmt.Fprintf(out, "%d questions, %d lost\n", asked, lost)
	return absolute(out, append(figures, figure{What: "requests lost, with retries", Ours: float64(lost)})...), err
}

// pause waits, or gives the error of ctx if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lose has rounds of one loss, and gives how long each interrupted the questions, in seconds.
func (s *ewStage) lose(ctx context.Context, out io.Writer, a *asking, l *loss) (took []float64, err error) {
	for round := range often(ctx, failoverRounds) {
		c := s.clusters[1+round%2]
		round /= 2
		a.watch()
		if err := pause(ctx, failoverQuiet); err != nil {
			return nil, err
		}
		a.expect()
		if err := l.take(ctx, c, round); err != nil {
			return nil, err
		}
		interruption, worst, settled := time.Duration(0), hold{}, false
		for !settled {
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return nil, err
			}
			interruption, worst, settled = a.interrupted(failoverQuiet)
		}
		held, failures := a.heldUp()
		took = append(took, interruption.Seconds())
		if err := l.give(ctx, c, round); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := s.returned(ctx, a, 1+(len(took)-1)%2); err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "%s, round %d: interrupted for %.3f s (%d questions held up, %d attempts failed, the last one %v); used again after %.1f s\n",
			l.name, len(took), interruption.Seconds(), held, failures, worst.err, time.Since(began).Seconds())
	}
	return took, nil
}

// returned waits until nothing is passed over any more, and each pod of a cluster has answered again.
func (s *ewStage) returned(ctx context.Context, a *asking, cluster int) error {
	ctx, cancel := context.WithTimeout(ctx, failoverReturn)
	defer cancel()
	a.watch()
	for {
		gateways, err := s.metric(ctx, "isthmus_ejected_gateways")
		if err != nil {
			return err
		}
		endpoints, err := s.metric(ctx, "isthmus_ejected_endpoints")
		if err != nil {
			return err
		}
		var silent []string
		for i, pod := range s.pods {
			if pod.cluster == cluster && a.answeredBy(uint32(i)) == 0 {
				silent = append(silent, pod.Name)
			}
		}
		if gateways+endpoints == 0 && silent == nil {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("cluster %d is not used again: %v gateways and %v endpoints are passed over, %v do not answer: %w", cluster, gateways, endpoints, silent, err)
		}
	}
}
