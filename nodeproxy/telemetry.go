// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// party is one end of a connection, as metrics name it. Empty parts read "unknown".
type party struct {
	workload, service, revision, namespace, cluster string
	region, zone                                    string
	principal                                       mesh.Identity
}

func partyOf(w *mesh.Workload) party {
	if w == nil {
		return party{}
	}
	return party{
		workload: cmp.Or(w.WorkloadName, w.Name), service: w.CanonicalName, revision: w.CanonicalRevision,
		namespace: w.Namespace, cluster: w.Cluster, principal: w.Identity(), region: w.Locality.Region, zone: w.Locality.Zone,
	}
}

// inboundParty finds out who called: by address in our own network; what comes from another one is behind a gateway's address, and
// only its own words are left.
func (x *Proxy) inboundParty(conn *Connection, h hbone.Header) party {
	var out party
	own := x.networkOf(conn.self)
	if conn.Network != "" && !strings.EqualFold(conn.Network, own) {
		out = x.claims.believe(conn.Peer, h.Get(headerBaggage))
	} else {
		out = partyOf(x.o.View.Load().WorkloadAt(own, conn.Source.Addr()))
	}
	out.principal = conn.Peer // proved, or nothing
	return out
}

// meantService guesses which service a connection to a pod's address was for: the one the peer names, else the pod's only one.
func (x *Proxy) meantService(self *mesh.Workload, f Forwarded) *mesh.Service {
	v := x.o.View.Load()
	if f.Host != "" {
		if s := v.ServiceNamed(f.Host, self.Namespace); s != nil {
			if _, endpoint := self.Services[s.Key()]; endpoint {
				return s
			}
		}
	}
	if len(self.Services) == 1 {
		for key := range self.Services {
			return v.Service(key)
		}
	}
	return nil
}

// trafficLabels are those of Istio's TCP metrics, so that dashboards made for them work.
var trafficLabels = []string{
	"reporter",
	"source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
	"source_principal", "source_app", "source_version", "source_cluster",
	"destination_workload", "destination_canonical_service", "destination_canonical_revision", "destination_workload_namespace",
	"destination_principal", "destination_app", "destination_version", "destination_cluster",
	"destination_service", "destination_service_namespace", "destination_service_name",
	"request_protocol", "response_flags", "connection_security_policy",
}

// localityLabels come behind those, on request: with them the label sets are as many times more as a workload has zones.
var localityLabels = []string{"source_region", "source_zone", "destination_region", "destination_zone"}

func known(s string) string { return cmp.Or(s, "unknown") }

func (p party) labels(to []string) []string {
	return append(to,
		known(p.workload), known(p.service), known(p.revision), known(p.namespace), known(p.principal.String()),
		known(p.service), known(p.revision), known(p.cluster),
	)
}

// metrics are the proxy's counters.
type metrics struct {
	// labels are those of the counters of connections, and series has and bounds these.
	labels []string
	series *series

	unspoofed, podsStarted, podsStopped, dryRun, namesResolved, revoked prometheus.Counter

	handshakeFailures, tunnelEvents, attemptsFailed, lanesCut, handshakes, full *prometheus.CounterVec

	dnsRequests, dnsUpstream, dnsFailures, dnsUnknownServer, dnsCached prometheus.Counter
	dnsRefused                                                         *prometheus.CounterVec
	dnsDuration                                                        prometheus.Histogram
}

// The counters of connections, as places in series.counters.
const (
	openedTotal = iota
	closedTotal
	failedTotal
	sentBytes
	receivedBytes
)

// newMetrics makes them with more labels than Istio's for connections, if there are more.
func newMetrics(r prometheus.Registerer, more ...string) *metrics {
	labels := append(slices.Clone(trafficLabels), more...)
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &metrics{
		labels: labels,

		attemptsFailed:    vec("isthmus_connect_attempts_failed_total", "Attempts to connect an endpoint or gateway that failed before any byte was sent.", "reason", "tunnel"),
		lanesCut:          vec("isthmus_lanes_cut_total", "Tunnels to a gateway over a long way that had fallen silent and were left for others to it.", "reason"),
		handshakes:        vec("isthmus_outbound_handshakes_total", "TLS handshakes begun with next hops (outer) and, through them, with last hops (inner).", "tunnel"),
		unspoofed:         counter("isthmus_unspoofed_connections_total", "Connections to applications that do not show their caller's address."),
		dryRun:            counter("isthmus_dry_run_differences_total", "Verdicts that policies in dry run would have turned."),
		full:              vec("isthmus_connection_limit_total", "Times that a pod had as many connections through one of its listeners as it may, so that further ones wait.", "listener"),
		handshakeFailures: vec("isthmus_handshake_failures_total", "Inbound tunnels that were not accepted.", "reason"),
		tunnelEvents:      vec("isthmus_tunnel_events_total", "Limits and rules that tunnels ran into.", "event"),
		namesResolved:     counter("istio_on_demand_dns_total", "Names of workloads that were resolved because a connection needed it."),
		revoked:           counter("istio_crl_policy_rejections_total", "Connections that were refused, or ended, because a certificate was revoked."),
		podsStarted:       counter("workload_manager_proxies_started_total", "Pods that began to be served."),
		podsStopped:       counter("workload_manager_proxies_stopped_total", "Pods that ceased to be served."),

		dnsRequests: counter("istio_dns_requests_total", "DNS queries of pods."),
		dnsUpstream: counter("istio_dns_upstream_requests_total", "DNS queries that were passed on."),
		dnsFailures: counter("istio_dns_upstream_failures_total", "DNS queries that no server answered."),
		dnsCached:   counter("isthmus_dns_cached_answers_total", "DNS queries that were answered by what a server had told the same pod before."),
		dnsRefused:  vec("isthmus_dns_refused_total", "DNS queries that were refused.", "reason"),
		dnsUnknownServer: counter("isthmus_dns_unknown_server_total",
			"DNS queries that were passed on to the proxy's own servers, because it is not known whom the pod had asked."),
		dnsDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "istio_dns_upstream_request_duration_seconds", Help: "How long passed-on DNS queries took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
	}
	r.MustRegister(m.dnsDuration)
	m.series = &series{
		counters: []*prometheus.CounterVec{
			openedTotal:   vec("istio_tcp_connections_opened_total", "Connections that were established.", labels...),
			closedTotal:   vec("istio_tcp_connections_closed_total", "Established connections that ended.", labels...),
			failedTotal:   vec("istio_tcp_connections_failed_total", "Connections that were refused before they were established.", labels...),
			sentBytes:     vec("istio_tcp_sent_bytes_total", "Bytes from destinations to sources.", labels...),
			receivedBytes: vec("istio_tcp_received_bytes_total", "Bytes from sources to destinations.", labels...),
		},
		used:     map[string]*usedSeries{},
		overflow: counter("isthmus_traffic_series_overflow_total", "Times that a connection was counted without its ends, because there are too many different ones."),
	}
	return m
}

// watch adds gauges that are read when they are asked for.
func (m *metrics) watch(r prometheus.Registerer, x *Proxy) {
	gauge := func(name, help string, read func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	gauge("workload_manager_active_proxy_count", "Pods that are served.", func() float64 { n, _ := x.pods.counts(); return float64(n) })
	gauge("workload_manager_pending_proxy_count", "Pods that cannot be served yet.", func() float64 { _, n := x.pods.counts(); return float64(n) })
	for direction, reporter := range map[Direction]string{Outbound: "source", Inbound: "destination"} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "istio_tcp_sockets_open", Help: "Connections that are carried now.", ConstLabels: prometheus.Labels{"reporter": reporter},
		}, func() float64 { return float64(x.connections.count(direction)) }))
	}
	gauge("isthmus_inner_sessions", "Inner tunnels that are kept for further connections.", func() float64 { n, _ := x.pods.inners(); return float64(n) })
	gauge("isthmus_inner_streams", "Connections that they carry.", func() float64 { _, n := x.pods.inners(); return float64(n) })
	gauge("isthmus_ejected_endpoints", "Endpoints that some pod passes over because they failed lately.", func() float64 { n, _ := x.health.Counts(); return float64(n) })
	gauge("isthmus_ejected_gateways", "Gateways that some pod passes over because they failed lately.", func() float64 { _, n := x.health.Counts(); return float64(n) })
	gauge("isthmus_directory_workloads", "Workloads that are known.", func() float64 { n, _, _ := x.o.View.Load().Counts(); return float64(n) })
	gauge("isthmus_directory_services", "Services that are known.", func() float64 { _, n, _ := x.o.View.Load().Counts(); return float64(n) })
	gauge("isthmus_directory_policies", "Policies that are known.", func() float64 { _, _, n := x.o.View.Load().Counts(); return float64(n) })
}

// ends are who called and who was called.
func (conn *Connection) ends() (source, destination party) {
	if conn.Direction == Inbound {
		return conn.remote, partyOf(conn.self)
	}
	return partyOf(conn.self), conn.remote
}

// maxLabels is how many a connection has with localityLabels.
const maxLabels = 28

// labels appends one connection's, in the order of trafficLabels.
func (conn *Connection) labels(to []string, reason Reason) []string {
	source, destination := conn.ends()
	reporter := "source"
	if conn.Direction == Inbound {
		reporter = "destination"
	}
	service, namespace, name := "unknown", "unknown", "unknown"
	if conn.meant != nil {
		service, namespace, name = conn.meant.Hostname, conn.meant.Namespace, cmp.Or(conn.meant.Name, "unknown")
	}
	security := "unknown"
	if conn.Tunnel != reach.Direct.String() {
		security = "mutual_tls"
	}
	to = append(to, reporter)
	to = source.labels(to)
	to = destination.labels(to)
	return append(to, service, namespace, name, "tcp", string(reason), security)
}

// count adds to counters of a connection.
func (m *metrics) count(conn *Connection, reason Reason, amounts ...amount) {
	var space [maxLabels]string
	labels := conn.labels(space[:0], reason)
	if len(m.labels) > len(trafficLabels) {
		source, destination := conn.ends()
		labels = append(labels, known(source.region), known(source.zone), known(destination.region), known(destination.zone))
	}
	m.series.count(labels, amounts...)
}

func (m *metrics) opened(conn *Connection) {
	conn.established = true
	m.count(conn, ReasonNone, amount{openedTotal, 1})
	conn.telling.Lock()
	defer conn.telling.Unlock()
	conn.told = true
}

// bytesPause is how old the counted bytes of open connections may be: less than anybody waits between two scrapes.
const bytesPause = 5 * time.Second

// countBytes counts what open connections carry, until ctx ends.
func (x *Proxy) countBytes(ctx context.Context) {
	look := time.NewTicker(bytesPause)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		for _, conn := range x.connections.list() {
			conn.telling.Lock()
			if conn.told {
				if received, sent := conn.untold(); received+sent > 0 {
					x.metrics.count(conn, ReasonNone, amount{receivedBytes, received}, amount{sentBytes, sent})
				}
			}
			conn.telling.Unlock()
		}
	}
}

// untold gives the bytes that were carried since it was asked last. telling is held.
func (conn *Connection) untold() (received, sent float64) {
	r, s := float64(conn.Stats.Sent.Load()), float64(conn.Stats.Received.Load())
	received, sent = r-conn.toldReceived, s-conn.toldSent
	conn.toldReceived, conn.toldSent = r, s
	return received, sent
}

// began registers an outbound connection that was established.
func (x *Proxy) began(conn *Connection) {
	x.connections.add(conn)
	x.metrics.opened(conn)
}

// ended counts a connection and writes its line of the access log. status is what the peer of a tunnel was told, 0 if there was none.
func (x *Proxy) ended(conn *Connection, status int, refusal *Refusal) {
	reason := ReasonNone
	if refusal != nil {
		reason = refusal.Reason
	}
	if reason == reach.ReasonCertRevoked {
		x.metrics.revoked.Inc()
	}
	received, sent := conn.Stats.Sent.Load(), conn.Stats.Received.Load()
	if conn.established {
		conn.telling.Lock()
		conn.told = false
		lastReceived, lastSent := conn.untold()
		conn.telling.Unlock()
		x.metrics.count(conn, reason, amount{closedTotal, 1}, amount{receivedBytes, lastReceived}, amount{sentBytes, lastSent})
	} else {
		x.metrics.count(conn, reason, amount{failedTotal, 1})
	}
	source, destination := conn.ends()
	if conn.Direction == Outbound {
		destination.principal = conn.Peer // what it proved, not what it should have been
	}
	line := make([]slog.Attr, 0, 28)
	line = append(line,
		slog.String("direction", string(conn.Direction)), slog.String("tunnel", conn.Tunnel), slog.String("peer", conn.Peer.String()), slog.String("service", conn.Service),
		slog.String("workload", conn.Pod), slog.String("source", conn.Source.String()), slog.String("destination", text(conn)), slog.String("network", conn.Network),
		slog.String("source_cluster", source.cluster), slog.String("source_namespace", source.namespace), slog.String("source_workload", source.workload),
		slog.String("source_identity", source.principal.String()),
		slog.String("destination_cluster", destination.cluster), slog.String("destination_namespace", destination.namespace), slog.String("destination_workload", destination.workload),
		slog.String("destination_identity", destination.principal.String()),
		slog.String("source_region", source.region), slog.String("source_zone", source.zone),
		slog.String("destination_region", destination.region), slog.String("destination_zone", destination.zone),
		slog.Int64("bytes_sent", sent), slog.Int64("bytes_received", received), slog.Int64("duration_ms", time.Since(conn.Opened).Milliseconds()),
		slog.Int("status", status), slog.String("reason", string(reason)),
	)
	if refusal != nil {
		line = append(line, slog.String("error", refusal.Err.Error()))
	}
	// As a record, not by the logger's own method: that looks for the place in the source, which is always this one and is not in the line.
	if ctx := context.Background(); x.access.Enabled(ctx, slog.LevelInfo) {
		record := slog.NewRecord(time.Now(), slog.LevelInfo, "connection", 0)
		record.AddAttrs(line...)
		x.access.Handle(ctx, record) //nolint:errcheck // there is nobody to tell: it is the log that fails
	}
	endSpan(conn.span, refusal, line)
}

func text(conn *Connection) string {
	if !conn.Destination.IsValid() {
		return ""
	}
	return conn.Destination.String()
}
