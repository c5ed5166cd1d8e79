// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// short is the message name of a type URL, the value of the label "type" and of the log key.
func short(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }

// serverMetrics count what a Server does. They work without a registerer too.
type serverMetrics struct {
	subscribers  prometheus.Gauge
	resources    *prometheus.GaugeVec
	refused      prometheus.Counter
	delayed      prometheus.Counter
	responses    *prometheus.CounterVec
	sent         *prometheus.CounterVec
	rejected     *prometheus.CounterVec
	abandoned    *prometheus.CounterVec
	encoded      *prometheus.CounterVec
	unencodable  *prometheus.CounterVec
	acknowledged *prometheus.HistogramVec

	of map[string]typeMetrics // by type URL: what is counted for each response, and need not be looked up for it
}

// typeMetrics are those of the responses of one type.
type typeMetrics struct {
	responses, sent prometheus.Counter
	acknowledged    prometheus.Observer
}

func newServerMetrics(r prometheus.Registerer) *serverMetrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_xds_" + name, Help: help}, []string{"type"})
	}
	m := &serverMetrics{
		subscribers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_xds_subscribers", Help: "Discovery streams that are being served."}),
		resources: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_xds_resources", Help: "Resources that subscribers may be told of."}, []string{"type"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_xds_refused_total", Help: "Discovery streams refused for their credentials, their number, or what they ask."}),
		delayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_xds_delayed_total", Help: "Discovery requests after which nothing more was read for a while, because they and those before had too much be looked at."}),
		responses:   counter("responses_total", "Discovery responses sent."),
		sent:        counter("resources_sent_total", "Resources sent in discovery responses."),
		rejected:    counter("rejected_total", "Discovery responses that a subscriber rejected, in whole or in part."),
		abandoned:   counter("abandoned_total", "Discovery streams ended because a response was not acknowledged in time."),
		encoded:     counter("encoded_total", "Resources encoded, once for all subscribers."),
		unencodable: counter("unencodable_total", "Resources that could not be encoded and were not sent."),
		acknowledged: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "isthmus_xds_acknowledge_seconds", Help: "From sending a discovery response to its acknowledgement.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"type"}),
	}
	m.of = map[string]typeMetrics{}
	for _, url := range order {
		m.of[url] = typeMetrics{m.responses.WithLabelValues(short(url)), m.sent.WithLabelValues(short(url)), m.acknowledged.WithLabelValues(short(url))}
	}
	if r != nil {
		r.MustRegister(m.subscribers, m.resources, m.refused, m.delayed, m.responses, m.sent, m.rejected, m.abandoned, m.encoded, m.unencodable, m.acknowledged)
	}
	return m
}

// clientMetrics count what a Client sees. They work without a registerer too.
type clientMetrics struct {
	connected prometheus.Gauge
	partial   prometheus.Gauge
	streams   prometheus.Counter
	applied   *prometheus.CounterVec
	rejected  *prometheus.CounterVec
	resources *prometheus.GaugeVec

	// Named as ztunnel's are.
	terminations    *prometheus.CounterVec
	messages, bytes *prometheus.CounterVec

	of map[string]clientTypeMetrics // by type URL, of those that are asked for: what is counted for each response, and need not be looked up for it
}

// clientTypeMetrics are those of the responses of one type.
type clientTypeMetrics struct {
	applied, messages, bytes prometheus.Counter
	resources                prometheus.Gauge
}

func newClientMetrics(r prometheus.Registerer, types []Type) *clientMetrics {
	m := &clientMetrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_xds_client_connected", Help: "1 while a discovery stream is open, else 0."}),
		partial: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_xds_client_partial", Help: "1 while the control plane has not told everything, because it does not know it yet, else 0."}),
		streams: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_xds_client_streams_total", Help: "Discovery streams opened or tried."}),
		applied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_xds_client_changes_total", Help: "Resources changed or removed by discovery responses."}, []string{"type"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_xds_client_rejected_total", Help: "Resources that could not be believed and were rejected."}, []string{"type"}),
		resources: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_xds_client_resources", Help: "Resources known from discovery."}, []string{"type"}),
		terminations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_xds_connection_terminations_total", Help: "Discovery streams that ended, or that could not be opened."}, []string{"reason"}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_xds_message_total", Help: "Discovery responses received."}, []string{"url"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_xds_message_bytes_total", Help: "Bytes of discovery responses received."}, []string{"url"}),
	}
	m.of = make(map[string]clientTypeMetrics, len(types))
	for _, t := range types {
		m.of[t.url] = clientTypeMetrics{
			applied: m.applied.WithLabelValues(short(t.url)), resources: m.resources.WithLabelValues(short(t.url)),
			messages: m.messages.WithLabelValues(t.url), bytes: m.bytes.WithLabelValues(t.url),
		}
	}
	if r != nil {
		r.MustRegister(m.connected, m.partial, m.streams, m.applied, m.rejected, m.resources, m.terminations, m.messages, m.bytes)
	}
	return m
}

// received counts a response. Its type is a label only if it was asked for: there are few of those.
func (m *clientMetrics) received(url string, size int) {
	if of, asked := m.of[url]; asked {
		of.messages.Inc()
		of.bytes.Add(float64(size))
		return
	}
	m.messages.WithLabelValues("unknown").Inc()
	m.bytes.WithLabelValues("unknown").Add(float64(size))
}

// ended counts the end of a stream. good says that something had been applied.
func (m *clientMetrics) ended(good bool, err error) {
	reason := "Error"
	switch {
	case errors.Is(err, io.EOF):
		reason = "Complete"
	case !good:
		reason = "ConnectionError"
	}
	m.terminations.WithLabelValues(reason).Inc()
}
