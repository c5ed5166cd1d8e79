// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/internal/peephole"
)

// maxScrapes is how many answers of metrics are made at once: each holds all of them until it was read, up to about 100 MB.
const maxScrapes = 4

// AdminOptions are where the proxy is looked at, in its own namespace.
type AdminOptions struct {
	// Ready, Metrics and Admin are addresses to listen on; an empty one is left out. Admin shows everything that the proxy knows (but no key), and must be
	// on loopback.
	Ready, Metrics, Admin string
	Gatherer              prometheus.Gatherer
	// Level is what is logged at least, and may be changed by whoever reaches Admin; nil leaves that out.
	Level *slog.LevelVar
}

// ServeAdmin serves readiness, metrics and dumps until ctx ends. It fails if one of the addresses cannot be had.
func (x *Proxy) ServeAdmin(ctx context.Context, o AdminOptions) error {
	if o.Admin != "" && !onLoopback(o.Admin) {
		return fmt.Errorf("admin address %s is not on loopback: what is there is not for everybody", o.Admin)
	}
	ready := http.NewServeMux()
	ready.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		if waits := x.Waits(); len(waits) > 0 {
			http.Error(w, "waiting for: "+strings.Join(waits, "; "), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ready")
		if k := x.o.Keeper; k != nil && k.Restored() {
			fmt.Fprintf(w, "no controller has said all yet: serving what one said %v ago\n", k.Age().Round(time.Second))
		}
		for _, why := range x.pods.obstructed() {
			fmt.Fprintln(w, why)
		}
	})
	measure := http.NewServeMux()
	handler := promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	measure.Handle("GET /metrics", handler)
	measure.Handle("GET /stats/prometheus", handler)
	admin := http.NewServeMux()
	admin.HandleFunc("GET /config_dump", x.dump)
	admin.HandleFunc("GET /connections", x.dumpConnections)
	admin.HandleFunc("GET /certificates", x.dumpCertificates)
	if o.Level != nil {
		admin.HandleFunc("GET /logging", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, levelName(o.Level.Level())) })
		admin.HandleFunc("POST /logging", func(w http.ResponseWriter, r *http.Request) { setLevel(w, r, o.Level) })
	}
	admin.HandleFunc("GET /debug/pprof/", pprof.Index) // heap, goroutine and the like
	admin.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	admin.HandleFunc("GET /debug/pprof/trace", pprof.Trace)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := []struct {
		addr    string
		handler http.Handler
	}{{o.Ready, ready}, {o.Metrics, measure}, {o.Admin, admin}}
	results := make(chan error, len(servers))
	started := 0
	var failed error
	for _, s := range servers {
		if s.addr == "" {
			continue
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.addr)
		if err != nil {
			failed = fmt.Errorf("serve %s: %w", s.addr, err)
			cancel()
			break
		}
		started++
		go func() {
			err := peephole.Serve(ctx, l, s.handler)
			if err != nil {
				err = fmt.Errorf("serve %s: %w", s.addr, err)
			}
			results <- err
		}()
	}
	for range started {
		if err := <-results; err != nil {
			failed = errors.Join(failed, err)
			cancel()
		}
	}
	return failed
}

// onLoopback says whether an address can be reached from its own host only.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// levels are the two that there are.
var levels = map[string]slog.Level{"info": slog.LevelInfo, "debug": slog.LevelInfo - 1}

func levelName(level slog.Level) string {
	if level < slog.LevelInfo {
		return "debug"
	}
	return "info"
}

func setLevel(w http.ResponseWriter, r *http.Request, to *slog.LevelVar) {
	level, known := levels[r.URL.Query().Get("level")]
	if !known {
		http.Error(w, "level must be info or debug", http.StatusBadRequest)
		return
	}
	to.Set(level)
	fmt.Fprintln(w, levelName(level))
}
