// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	bootRounds  = 3
	bootProxies = 5
	bootGoal    = 5 * time.Second
)

// discoveryBoot starts the controller while proxies are trying to reach it, and judges the first answer that each of them gets.
func discoveryBoot(ctx context.Context, out io.Writer) (_ result, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(propagateQuiet))
	p, err := newDiscoveryPlane(ctx, discoveryClusters)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.join(1, discoveryClusters); err != nil {
		return result{}, err
	}
	var took []float64
	wrong := 0
	for range bootRounds {
		d, bad, err := p.boot(ctx, out)
		if err != nil {
			return result{}, err
		}
		took, wrong = append(took, d.Seconds()), wrong+bad
	}
	return absolute(out,
		figure{What: "start to the first complete answer", Unit: "s", Ours: median(took), Goal: bootGoal.Seconds()},
		figure{What: "answers that were wrong or not complete", Ours: float64(wrong), Goal: 0},
	), nil
}

// boot measures one start, to the first answer of the last proxy, and counts the first answers that are not the whole truth.
func (p *discoveryPlane) boot(ctx context.Context, out io.Writer) (took time.Duration, wrong int, err error) {
	began := time.Now()
	if err := p.start(ctx); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	proxies := &discoveryProxies{changes: map[string]discoveryChange{}}
	for i := range bootProxies {
		proxies.add(ctx, p, &running, i).judge = &bootJudge{clusters: len(p.clusters), own: p.local().ID}
	}
	if err := proxies.synced(ctx); err != nil {
		return 0, 0, fmt.Errorf("%w; the controller's last words: %s", err, p.lastWords())
	}
	took = time.Since(began)
	for _, proxy := range proxies.all {
		proxy.mu.Lock()
		problem := proxy.judge.problem
		proxy.mu.Unlock()
		if problem != "" {
			wrong++
			fmt.Fprintf(out, "a first answer is not the whole truth: %s\n", problem)
		}
	}
	fmt.Fprintf(out, "%d first answers after %.2f s\n", bootProxies, took.Seconds())
	return took, wrong, nil
}

// bootJudge looks at the first answer about addresses, which is to hold everything: each local pod, each service with the addresses that
// it has here, and for each other network its gateway and each service with all of its pods as capacity.
type bootJudge struct {
	clusters int
	own      string
	judged   bool
	problem  string
}

func (j *bootJudge) look(d mesh.Delta) {
	if j.judged || len(d.Workloads)+len(d.Services) == 0 {
		return
	}
	j.judged = true
	pods, gateways, sums := 0, 0, map[string]int{}
	for uid, w := range d.Workloads {
		switch {
		case w == nil:
			j.problem = "a first answer that removes " + uid
		case w.Cluster == j.own && len(w.Addresses) == 1 && !w.Unhealthy && w.Tunnel == mesh.TunnelHBONE && len(w.Services) == 1:
			pods++
		case w.NetworkGateway != nil && len(w.Addresses) == 0:
			sums[w.Network] += int(w.Capacity)
		case len(w.Addresses) == 1 && w.Network != j.own:
			gateways++
		default:
			j.problem = fmt.Sprintf("an unexpected workload %+v", w)
		}
	}
	services := 0
	for _, s := range d.Services {
		if s != nil && len(s.Addresses) > 0 && len(s.Ports) == 2 {
			services++
		}
	}
	if pods != discoveryEndpoints || gateways != j.clusters-1 || services != discoveryServices || len(sums) != j.clusters-1 {
		j.problem = fmt.Sprintf("%d pods, %d gateways, %d services, %d networks", pods, gateways, services, len(sums))
	}
	for network, sum := range sums {
		if sum != discoveryEndpoints {
			j.problem = fmt.Sprintf("network %s has capacity %d", network, sum)
		}
	}
}
