// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// metrics are what a gateway counts. No label's values come from peers.
type metrics struct {
	opened            prometheus.Counter
	closed            *prometheus.CounterVec // reason
	refused           *prometheus.CounterVec // reason
	limited           *prometheus.CounterVec // limit
	handshakeFailures *prometheus.CounterVec // reason
	events            *prometheus.CounterVec // event of internal/hbone
	dryRun            prometheus.Counter
	ejections         prometheus.Counter
	dialFailures      prometheus.Counter
	lanesCut          *prometheus.CounterVec // reason
	tlsFailures       prometheus.Counter
	dialSeconds       prometheus.Histogram

	mu             sync.Mutex // hold for all below
	running        map[*relay.Stats]struct{}
	sent, received int64 // by streams that ended
}

// newMetrics registers what the server counts and what can be asked of it.
func newMetrics(r prometheus.Registerer, s *Server) *metrics {
	name := func(n string) string { return "isthmus_gateway_" + n }
	counter := func(n, help string) prometheus.CounterOpts { return prometheus.CounterOpts{Name: name(n), Help: help} }
	m := &metrics{
		opened:            prometheus.NewCounter(counter("streams_opened_total", "Streams answered with 200.")),
		closed:            prometheus.NewCounterVec(counter("streams_closed_total", "Streams that ended after a 200, by reason; '-' is an ordinary end."), []string{"reason"}),
		refused:           prometheus.NewCounterVec(counter("streams_refused_total", "CONNECTs not answered with 200, by reason."), []string{"reason"}),
		limited:           prometheus.NewCounterVec(counter("limited_total", "Connections and streams turned away because of a limit."), []string{"limit"}),
		handshakeFailures: prometheus.NewCounterVec(counter("handshake_failures_total", "Outer TLS handshakes that failed, by reason."), []string{"reason"}),
		events:            prometheus.NewCounterVec(counter("hbone_events_total", "What peers did wrong on outer connections."), []string{"event"}),
		dryRun:            prometheus.NewCounter(counter("policy_dry_run_total", "Verdicts on streams and requests that policies in dry run would have turned around, once for a stream as long as they would do the same.")),
		ejections:         prometheus.NewCounter(counter("endpoint_ejections_total", "Endpoints left out for a while after a failure.")),
		tlsFailures:       prometheus.NewCounter(counter("endpoint_tls_failures_total", "Connections to endpoints that were not taken for what a BackendTLSPolicy wants.")),
		dialFailures:      prometheus.NewCounter(counter("endpoint_connect_failures_total", "Attempts to connect to an endpoint that failed.")),
		lanesCut:          prometheus.NewCounterVec(counter("lanes_cut_total", "Tunnels to another network's gateway over a long way that had fallen silent and were left for others to it."), []string{"reason"}),
		dialSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("endpoint_connect_seconds"), Help: "Time of one attempt to connect to an endpoint.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 2, 8},
		}),
		running: map[*relay.Stats]struct{}{},
	}
	gauge := func(n, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(n), Help: help}, f)
	}
	r.MustRegister(m.opened, m.closed, m.refused, m.limited, m.handshakeFailures, m.events, m.dryRun, m.ejections, m.dialFailures, m.lanesCut, m.tlsFailures, m.dialSeconds,
		prometheus.NewCounterFunc(counter("sent_bytes_total", "Bytes sent to sources, running streams included."), func() float64 {
			sent, _ := m.traffic()
			return float64(sent)
		}),
		prometheus.NewCounterFunc(counter("received_bytes_total", "Bytes received from sources, running streams included."), func() float64 {
			_, received := m.traffic()
			return float64(received)
		}),
		gauge("streams", "Streams running or being set up.", func() float64 { return float64(s.streamQuota.used()) }),
		gauge("connections", "Outer connections.", func() float64 { return float64(s.connections.used()) }),
		gauge("endpoints_known", "Endpoints remembered.", func() float64 { known, _, _ := s.balancer.counts(); return float64(known) }),
		gauge("endpoints_ejected", "Endpoints left out now.", func() float64 { _, out, _ := s.balancer.counts(); return float64(out) }),
		gauge("endpoints_warming", "Endpoints that are new, or come back, and do not get all of their share yet.", func() float64 {
			_, _, warming := s.balancer.counts()
			return float64(warming)
		}),
		gauge("exports", "Services exported.", func() float64 {
			if c := s.config.Load(); c != nil {
				return float64(len(c.exported))
			}
			return 0
		}),
	)
	return m
}

func (m *metrics) event(e hbone.Event) { m.events.WithLabelValues(string(e)).Inc() }

func (m *metrics) open(stats *relay.Stats) {
	m.opened.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[stats] = struct{}{}
}

func (m *metrics) close(stats *relay.Stats, reason Reason) {
	m.closed.WithLabelValues(string(reason)).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, stats)
	m.sent += stats.Received.Load()
	m.received += stats.Sent.Load()
}

// traffic is what all streams moved so far, as Istio counts: sent is to the source, received from it.
func (m *metrics) traffic() (sent, received int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent, received = m.sent, m.received
	for stats := range m.running {
		sent += stats.Received.Load()
		received += stats.Sent.Load()
	}
	return sent, received
}
