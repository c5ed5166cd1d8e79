// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/gateway"
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
		// A minute is enough for a profile of 30 s, and no reader can keep a place of MaxRequestsInFlight for longer.
		h := &http.Server{
			Handler: s.handler, ReadTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		}
		wait.Go(func() {
			if err := h.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
				log.Error(err, "administration server ended", "address", s.address)
			}
		})
		wait.Go(func() {
			<-ctx.Done()
			_ = h.Close() // nobody waits for an answer of a process that ends
		})
	}
	return nil
}
