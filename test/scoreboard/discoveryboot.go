// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// discoveryBoot starts the controller while proxies are trying to reach it, and judges what each of them is told until it is told to be complete.
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
		figure{What: "answers that were wrong, or not complete and did not say so", Ours: float64(wrong), Goal: 0},
	), nil
}

// boot measures one start, to the first complete answer of the last proxy, and counts the answers that are not the whole truth and do not say so.
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
	proxies := &discoveryProxies{changes: map[news]discoveryChange{}}
	err = p.observe(ctx, 2*bootGoal, func() error {
		for i := range bootProxies {
			proxies.add(ctx, p, &running, i).judge = &bootJudge{clusters: len(p.clusters), own: p.local().ID}
		}
		if err := proxies.synced(ctx); err != nil {
			return fmt.Errorf("%w; the controller's last words: %s", err, p.lastWords())
		}
		for _, proxy := range proxies.all { // what is not complete says so: it may be told already, for what it is
			if err := p.await(ctx, "an answer is complete", func() (bool, error) { return !proxy.client.Partial(), nil }); err != nil {
				return err
			}
		}
		took = time.Since(began)
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	for _, proxy := range proxies.all {
		proxy.mu.Lock()
		proxy.judge.look(mesh.Delta{}, proxy.client.Partial())
		problem := proxy.judge.problem
		proxy.mu.Unlock()
		if problem != "" {
			wrong++
			fmt.Fprintf(out, "an answer is not the whole truth and does not say so: %s\n", problem)
		}
	}
	spent, err := p.processor()
	fmt.Fprintf(out, "%d complete answers after %.2f s, in which the controller used %.2f s of processor\n", bootProxies, took.Seconds(), spent.Seconds())
	return took, wrong, err
}

// bootJudge looks at what a proxy was told of addresses by the first answer that does not say that it is partial. That is to hold everything: each local pod, each
// service with the addresses that it has here, and for each other network its gateway and each service with all of its pods as capacity.
type bootJudge struct {
	clusters  int
	own       string
	told      bool // of anything
	judged    bool
	workloads map[string]*mesh.Workload
	services  map[mesh.ServiceKey]*mesh.Service
	problem   string
}

// look takes what comes next. partial is about what came until now.
func (j *bootJudge) look(d mesh.Delta, partial bool) {
	if j.told && !partial && !j.judged {
		j.judged = true
		j.judge()
	}
	if j.judged || len(d.Workloads)+len(d.Services) == 0 {
		return
	}
	if !j.told {
		j.told, j.workloads, j.services = true, map[string]*mesh.Workload{}, map[mesh.ServiceKey]*mesh.Service{}
	}
	for uid, w := range d.Workloads {
		if w == nil {
			j.problem = "an answer that removes " + uid
		}
		j.workloads[uid] = w
	}
	maps.Copy(j.services, d.Services)
}

func (j *bootJudge) judge() {
	pods, gateways, sums := 0, 0, map[string]int{}
	for _, w := range j.workloads {
		switch {
		case w == nil: // known already to be wrong
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
	for _, s := range j.services {
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
