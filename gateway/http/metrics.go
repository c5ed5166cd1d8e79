// SPDX-License-Identifier: Apache-2.0

package http

import (
	"iter"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxRouteLabels bounds how many routes have series of their own; the requests of all others, and of routes that have gone meanwhile, count as those of otherRoutes. What no
// route takes counts as noRoute's. Names of routes have a slash.
const maxRouteLabels, otherRoutes, noRoute = 500, "other", "-"

// commonStatuses have series of their own; all others are counted by their class, as "4xx", and so is all that broke off (ReasonAborted).
var commonStatuses = []int{101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 413, 421, 422, 429, 431, 500, 501, 502, 503, 504}

// codeLabels are the labels of statuses below 600; empty: it is none.
var codeLabels = func() (out [600]string) {
	for status := 100; status < len(out); status++ {
		out[status] = classOf(status)
	}
	for _, status := range commonStatuses {
		out[status] = strconv.Itoa(status)
	}
	return out
}()

// codeOther is the label of what is no status.
const codeOther = "other"

func classOf(status int) string { return strconv.Itoa(status/100) + "xx" }

// codeOf is the label of a status. A backend may say anything of three digits.
func codeOf(status int) string {
	if status < 100 || status >= len(codeLabels) {
		return codeOther
	}
	return codeLabels[status]
}

// metrics are what a server counts. No label's values come from clients or backends, and those of a route end with it.
type metrics struct {
	requests        *prometheus.CounterVec // route, code, reason
	seconds         *prometheus.HistogramVec
	running         prometheus.Gauge
	connectFailures prometheus.Counter
	leftOut         prometheus.Counter
	tlsFailures     prometheus.Counter
	mirrors         *prometheus.CounterVec // outcome
	retries         *prometheus.CounterVec // outcome

	mu     sync.RWMutex        // hold for all below: what was looked up once, as the library looks labels up slowly
	known  map[string]struct{} // the routes that there are; nil: nobody has said
	routes map[string]prometheus.Observer
	counts map[outcome]prometheus.Counter
}

// outcome is what requests are counted by.
type outcome struct {
	route  string
	code   string
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
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: name("requests"), Help: "Requests that are being answered."}),
		leftOut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("endpoints_left_out_total"), Help: "Times an endpoint was left out for a while, as its answers were to be tried again one after the other.",
		}),
		connectFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: name("endpoint_connect_failures_total"), Help: "Attempts to connect to an endpoint that failed, and connections whose endpoint has vanished."}),
		tlsFailures:     prometheus.NewCounter(prometheus.CounterOpts{Name: name("endpoint_tls_failures_total"), Help: "Connections to endpoints that were not taken for what a BackendTLSPolicy wants."}),
		mirrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("mirrored_total"), Help: "Copies of requests, by what became of them: sent, failed, or skipped (too large, of unknown size, or too many at once).",
		}, []string{"outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("retries_total"), Help: "Attempts that failed with another one left, by what followed: sent, over_budget, or body_not_kept.",
		}, []string{"outcome"}),
		routes: map[string]prometheus.Observer{}, counts: map[outcome]prometheus.Counter{},
	}
	r.MustRegister(m.requests, m.seconds, m.running, m.connectFailures, m.leftOut, m.tlsFailures, m.mirrors, m.retries)
	return m
}

// keep drops the series of all routes but those, which are the ones that may have series from now on.
func (m *metrics) keep(routes iter.Seq[mesh.RouteKey]) {
	known := map[string]struct{}{}
	for key := range routes {
		known[key.String()] = struct{}{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = known
	for route := range m.routes {
		if !m.may(route) {
			delete(m.routes, route)
			m.seconds.DeleteLabelValues(route)
		}
	}
	for o := range m.counts {
		if !m.may(o.route) {
			delete(m.counts, o)
			m.requests.DeleteLabelValues(o.route, o.code, string(o.reason))
		}
	}
}

// may says whether there is such a route, or it stands for others. Hold mu.
func (m *metrics) may(route string) bool {
	_, known := m.known[route]
	return known || m.known == nil || route == otherRoutes || route == noRoute
}

// under is what a route's requests are counted under: itself, if it has series or there is room for them. Hold mu.
func (m *metrics) under(route string) string {
	if _, has := m.routes[route]; has || route == noRoute || m.may(route) && len(m.routes) < maxRouteLabels+m.standIns() {
		return route
	}
	return otherRoutes
}

// standIns is how many have series that are no routes. Hold mu.
func (m *metrics) standIns() (n int) {
	for _, name := range [...]string{otherRoutes, noRoute} {
		if _, has := m.routes[name]; has {
			n++
		}
	}
	return n
}

// of gives what counts the requests of a route, which is the route's own while there is room.
func (m *metrics) of(o outcome) (prometheus.Counter, prometheus.Observer) {
	m.mu.RLock()
	o.route = m.under(o.route)
	seconds, count := m.routes[o.route], m.counts[o]
	m.mu.RUnlock()
	if seconds != nil && count != nil {
		return count, seconds
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o.route = m.under(o.route) // anything may have come or gone
	if seconds = m.routes[o.route]; seconds == nil {
		seconds = m.seconds.WithLabelValues(o.route)
		m.routes[o.route] = seconds
	}
	count = m.requests.WithLabelValues(o.route, o.code, string(o.reason))
	m.counts[o] = count
	return count, seconds
}

func (m *metrics) done(route string, status int, reason Reason, took time.Duration) {
	code := codeOf(status)
	if reason == ReasonAborted && code != codeOther { // the backend chooses both, and each would have a series with each
		code = classOf(status)
	}
	count, seconds := m.of(outcome{route, code, reason})
	count.Inc()
	seconds.Observe(took.Seconds())
}
