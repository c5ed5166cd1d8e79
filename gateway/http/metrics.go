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

	mu     sync.RWMutex // hold for both: what was looked up once, as the library looks labels up slowly
	routes map[string]prometheus.Observer
	counts map[outcome]prometheus.Counter
}

// outcome is what requests are counted by.
type outcome struct {
	route  string
	status int
	reason Reason
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
		routes: map[string]prometheus.Observer{}, counts: map[outcome]prometheus.Counter{},
	}
	r.MustRegister(m.requests, m.seconds, m.running, m.connectFailures, m.tlsFailures, m.mirrors, m.retries)
	return m
}

// of gives what counts the requests of a route, which is the route's own while there is room.
func (m *metrics) of(o outcome) (prometheus.Counter, prometheus.Observer) {
	m.mu.RLock()
	seconds, known := m.routes[o.route]
	if !known && len(m.routes) >= maxRouteLabels {
		o.route = otherRoutes
		seconds, known = m.routes[o.route]
	}
	count := m.counts[o]
	m.mu.RUnlock()
	if known && count != nil {
		return count, seconds
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if seconds, known = m.routes[o.route]; !known {
		if len(m.routes) >= maxRouteLabels {
			o.route = otherRoutes
		}
		seconds = m.seconds.WithLabelValues(o.route)
		m.routes[o.route] = seconds
	}
	code := "other"
	if o.status >= 100 && o.status <= 599 { // a backend may say anything of three digits
		code = strconv.Itoa(o.status)
	}
	count = m.requests.WithLabelValues(o.route, code, string(o.reason))
	m.counts[o] = count
	return count, seconds
}

func (m *metrics) done(route string, status int, reason Reason, took time.Duration) {
	if status < 100 || status > 599 {
		status = 0
	}
	count, seconds := m.of(outcome{route, status, reason})
	count.Inc()
	seconds.Observe(took.Seconds())
}
