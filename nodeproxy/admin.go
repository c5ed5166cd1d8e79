// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// AdminOptions are where the proxy is looked at, in its own namespace.
type AdminOptions struct {
	// Ready, Metrics and Admin are addresses to listen on; an empty one is left out. Admin shows everything that the proxy knows, and
	// belongs on loopback.
	Ready, Metrics, Admin string
	Gatherer              prometheus.Gatherer
}

// ServeAdmin serves readiness, metrics and dumps until ctx ends. It fails if one of the addresses cannot be had.
func (x *Proxy) ServeAdmin(ctx context.Context, o AdminOptions) error {
	ready := http.NewServeMux()
	ready.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		if waits := x.Waits(); len(waits) > 0 {
			http.Error(w, "waiting for: "+strings.Join(waits, "; "), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ready")
		if k := x.o.Keeper; k != nil && k.Restored() {
			fmt.Fprintf(w, "no controller answers: serving what one said %v ago\n", k.Age().Round(time.Second))
		}
	})
	measure := http.NewServeMux()
	handler := promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{})
	measure.Handle("GET /metrics", handler)
	measure.Handle("GET /stats/prometheus", handler)
	admin := http.NewServeMux()
	admin.HandleFunc("GET /config_dump", x.dump)
	admin.HandleFunc("GET /connections", x.dumpConnections)
	admin.HandleFunc("GET /debug/pprof/", pprof.Index)
	admin.HandleFunc("GET /debug/pprof/profile", pprof.Profile)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := []struct {
		addr    string
		handler http.Handler
	}{{o.Ready, ready}, {o.Metrics, measure}, {o.Admin, admin}}
	results := make(chan error, len(servers))
	started := 0
	for _, s := range servers {
		if s.addr == "" {
			continue
		}
		started++
		server := &http.Server{Addr: s.addr, Handler: s.handler, ReadHeaderTimeout: 5 * time.Second}
		go func() {
			stop := context.AfterFunc(ctx, func() { shut(server) })
			err := server.ListenAndServe()
			stop()
			if ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
				results <- fmt.Errorf("serve %s: %w", s.addr, err)
				return
			}
			results <- nil
		}()
	}
	var failed error
	for range started {
		if err := <-results; err != nil {
			failed = errors.Join(failed, err)
			cancel()
		}
	}
	return failed
}

// dump writes everything that the proxy was told, sorted.
func (x *Proxy) dump(w http.ResponseWriter, _ *http.Request) {
	s := x.o.View.Load().Snapshot()
	type workload struct {
		*mesh.Workload
		Services map[string][]mesh.Port
	}
	out := struct {
		Network, Cluster string
		Waits, Pods      []string
		Workloads        []workload
		Services         []*mesh.Service
		Policies         []*mesh.Policy
	}{Network: x.o.Network, Cluster: x.o.Cluster, Waits: x.Waits()}
	for _, p := range x.pods.list() {
		out.Pods = append(out.Pods, p.String())
	}
	for _, one := range s.Workloads {
		services := map[string][]mesh.Port{}
		for key, ports := range one.Services {
			services[key.String()] = ports
		}
		out.Workloads = append(out.Workloads, workload{one, services})
	}
	for _, one := range s.Services {
		out.Services = append(out.Services, one)
	}
	for _, one := range s.Policies {
		out.Policies = append(out.Policies, one)
	}
	slices.Sort(out.Pods)
	slices.SortFunc(out.Workloads, func(a, b workload) int { return strings.Compare(a.UID, b.UID) })
	slices.SortFunc(out.Services, func(a, b *mesh.Service) int { return strings.Compare(a.Key().String(), b.Key().String()) })
	slices.SortFunc(out.Policies, func(a, b *mesh.Policy) int { return strings.Compare(a.Key(), b.Key()) })
	write(w, out)
}

// dumpConnections writes what is open, oldest first.
func (x *Proxy) dumpConnections(w http.ResponseWriter, _ *http.Request) {
	type line struct {
		Direction                         Direction
		Tunnel, Pod, Peer, Service        string
		Source, Destination, Network, Age string
		Sent, Received                    int64
	}
	out := []line{}
	for _, c := range x.connections.list() {
		out = append(out, line{
			Direction: c.Direction, Tunnel: c.Tunnel, Pod: c.Pod, Peer: c.Peer.String(), Service: c.Service,
			Source: c.Source.String(), Destination: c.Destination.String(), Network: c.Network,
			Age: time.Since(c.Opened).Round(time.Millisecond).String(), Sent: c.Stats.Received.Load(), Received: c.Stats.Sent.Load(),
		})
	}
	write(w, out)
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.Encode(v) //nolint:errcheck // whoever asked has gone
}
