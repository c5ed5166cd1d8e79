// SPDX-License-Identifier: Apache-2.0

package http

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxRouteLabels bounds how many routes have series of their own; the requests of all others count as those of otherRoutes.
const maxRouteLabels, otherRoutes = 500, "other"

// metrics are what a server counts. No label's values come from clients: statuses are those of HTTP's classes but for the common ones.
type metrics struct {
	requests        *prometheus.CounterVec // route, code, reason
	seconds         *prometheus.HistogramVec
	running         prometheus.Gauge
	connectFailures prometheus.Counter
	tlsFailures     prometheus.Counter
	mirrors         *prometheus.CounterVec // outcome
	retries         *prometheus.CounterVec // outcome

	mu     sync.RWMutex
	routes map[string]struct{}
}

func newMetrics(r prometheus.Registerer) *metrics {
	name := func(n string) string { return "isthmus_gateway_http_" + n }
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("requests_total"), Help: "Requests answered, by route, status and reason; '-' is a backend's answer.",
		}, []string{"route", "code", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("request_seconds"), Help: "Time from a request's headers to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"route"}),
		running:         prometheus.NewGauge(prometheus.GaugeOpts{Name: name("requests"), Help: "Requests that are being answered."}),
		connectFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: name("endpoint_connect_failures_total"), Help: "Attempts to connect to an endpoint that failed."}),
		tlsFailures:     prometheus.NewCounter(prometheus.CounterOpts{Name: name("endpoint_tls_failures_total"), Help: "Connections to endpoints that were not taken for what a BackendTLSPolicy wants."}),
		mirrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("mirrored_total"), Help: "Copies of requests, by what became of them: sent, failed, or skipped (too large, of unknown size, or too many at once).",
		}, []string{"outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("retries_total"), Help: "Attempts that failed with another one left, by what followed: sent, over_budget, or body_not_kept.",
		}, []string{"outcome"}),
		routes: map[string]struct{}{},
	}
	r.MustRegister(m.requests, m.seconds, m.running, m.connectFailures, m.tlsFailures, m.mirrors, m.retries)
	return m
}

// label is the route's own label while there is room.
func (m *metrics) label(route string) string {
	m.mu.RLock()
	_, known := m.routes[route]
	full := len(m.routes) >= maxRouteLabels
	m.mu.RUnlock()
	switch {
	case known:
		return route
	case full:
		return otherRoutes
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.routes) >= maxRouteLabels {
		return otherRoutes
	}
	m.routes[route] = struct{}{}
	return route
}

func (m *metrics) done(route string, status int, reason Reason, took time.Duration) {
	route = m.label(route)
	code := "other"
	if status >= 100 && status <= 599 { // a backend may say anything of three digits
		code = strconv.Itoa(status)
	}
	m.requests.WithLabelValues(route, code, string(reason)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}
