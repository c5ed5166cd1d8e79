// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/isthmus-mesh/isthmus/controllers"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// churnMark says to a process that it is to be the control plane whose leaks are counted.
const churnMark = "ISTHMUS_CHURN_PLANE"

const churnSystem = "isthmus-system"

// churnCount is what a control plane holds, after a garbage collection.
type churnCount struct {
	Goroutines, Descriptors, Heap, Resources int
	Watches, Objects                         int // counted outside of it
}

// churnPlane is a process that runs the control plane alone, so that nothing else is counted.
type churnPlane struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	in  *json.Encoder
	out *json.Decoder
}

func startChurnPlane(ctx context.Context, kubeconfig string) (*churnPlane, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), churnMark+"="+kubeconfig)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	return &churnPlane{cmd: cmd, in: json.NewEncoder(in), out: json.NewDecoder(out)}, nil
}

func (p *churnPlane) count() (churnCount, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c churnCount
	if err := p.in.Encode(true); err != nil {
		return c, fmt.Errorf("ask the control plane: %w", err)
	}
	if err := p.out.Decode(&c); err != nil {
		return c, fmt.Errorf("hear the control plane: %w", err)
	}
	return c, nil
}

func (p *churnPlane) stop() {
	_ = p.cmd.Process.Kill() // it holds nothing that must be put in order
	_ = p.cmd.Wait()         // killed: there is nothing to learn
}

// beChurnPlane makes this process the control plane, if it was started for that, and does not return then.
func beChurnPlane() {
	kubeconfig := os.Getenv(churnMark)
	if kubeconfig == "" {
		return
	}
	if err := runChurnPlane(kubeconfig); err != nil {
		fmt.Fprintln(os.Stderr, "control plane:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChurnPlane(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctrl.SetLogger(logr.Discard())
	registry := prometheus.NewRegistry()
	failed := make(chan error, 1)
	go func() {
		failed <- controllers.Run(context.Background(), controllers.Options{
			Log: logr.Discard(), Rest: config, Discovery: listener, Registerer: registry, GatewayImage: "isthmus.dev/gateway:dev",
			World: world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: churnSystem},
		})
	}()
	questions := make(chan struct{})
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	go func() {
		defer close(questions) // nobody asks any more
		for {
			var ask bool
			if in.Decode(&ask) != nil {
				return
			}
			questions <- struct{}{}
		}
	}()
	for {
		select {
		case err := <-failed:
			return err
		case _, more := <-questions:
			if !more {
				return nil
			}
			count, err := countOurselves(registry)
			if err != nil {
				return err
			}
			if err := out.Encode(count); err != nil {
				return err
			}
		}
	}
}

func countOurselves(registry *prometheus.Registry) (churnCount, error) {
	var memory runtime.MemStats
	for range 3 { // pools and finalizers need more than one
		runtime.GC()
	}
	runtime.ReadMemStats(&memory)
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return churnCount{}, err
	}
	count := churnCount{Goroutines: runtime.NumGoroutine(), Descriptors: len(descriptors), Heap: int(memory.HeapAlloc)}
	families, err := registry.Gather()
	if err != nil {
		return churnCount{}, err
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "isthmus_xds_resources":
				count.Resources += int(m.GetGauge().GetValue())
			case "isthmus_remote_refused_total":
				count.Resources++ // a counter of a cluster that is gone
			}
		}
	}
	return count, nil
}
