// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/peephole"
)

// serveAdmin binds and serves readiness, metrics and administration until ctx ends.
func serveAdmin(ctx context.Context, wait *sync.WaitGroup, o options, server *gateway.Server, registry *prometheus.Registry, log logr.Logger) error {
	metrics := http.NewServeMux()
	exposition := promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	metrics.Handle("GET /metrics", exposition)
	metrics.Handle("GET /stats/prometheus", exposition)
	for _, s := range []struct {
		address string
		handler http.Handler
	}{{o.readiness, server.Readiness()}, {o.metrics, metrics}, {o.admin, server.Admin()}} {
		socket, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", s.address, err)
		}
		wait.Go(func() {
			if err := peephole.Serve(ctx, socket, s.handler); err != nil {
				log.Error(err, "administration server ended", "address", s.address)
			}
		})
	}
	return nil
}
