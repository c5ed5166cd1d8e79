// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// WatchCertificates has metrics tell of a Source's certificates, so that an issuer that fails is noticed before the first of them has ended.
func WatchCertificates(source *mtls.Source, registry prometheus.Registerer) {
	registry.MustRegister(&certificateMetrics{
		source:  source,
		count:   prometheus.NewDesc("isthmus_certificates", "Identities that a certificate is held for, or wanted: valid, missing, or refused by the issuer and missing.", []string{"state"}, nil),
		failing: prometheus.NewDesc("isthmus_certificates_failing", "Identities of which the last attempt to get a certificate failed, whether or not there is a valid one.", nil, nil),
		end:     prometheus.NewDesc("isthmus_certificates_end_timestamp_seconds", "When the first of the valid certificates ends. Each is renewed when half of its time is over.", nil, nil),
	})
}

// certificateMetrics asks the Source once for each time that it is asked.
type certificateMetrics struct {
	source              *mtls.Source
	count, failing, end *prometheus.Desc
}

// Describe is for the registry.
func (m *certificateMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.count
	to <- m.failing
	to <- m.end
}

// Collect is for the registry, too.
func (m *certificateMetrics) Collect(to chan<- prometheus.Metric) {
	count, failing := map[string]int{"valid": 0, "missing": 0, "refused": 0}, 0
	var first time.Time
	for _, s := range m.source.States() {
		switch {
		case s.Valid:
			count["valid"]++
			if first.IsZero() || s.NotAfter.Before(first) {
				first = s.NotAfter
			}
		case s.Refused:
			count["refused"]++
		default:
			count["missing"]++
		}
		if s.Err != nil {
			failing++
		}
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for state, n := range count {
		gauge(m.count, float64(n), state)
	}
	gauge(m.failing, float64(failing))
	if !first.IsZero() {
		gauge(m.end, float64(first.Unix()))
	}
}
