// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxSeries is how many different label sets of connections are counted apart. Each costs about 2.5 KiB in each of the five counters: 100 MB if all come.
	maxSeries = 8192
	// seriesIdle is how long one that nobody uses is kept when there are too many. It is far longer than anybody waits between two scrapes.
	seriesIdle = time.Hour
	// seriesSweep is the pause between two searches for such.
	seriesSweep = time.Minute
)

// series bounds the label sets of a family of counters: workloads come and go for as long as the process lives. Those beyond are counted together, with ends
// that are "unknown".
type series struct {
	counters []*prometheus.CounterVec
	overflow prometheus.Counter

	mu    sync.Mutex
	used  map[string]*usedSeries
	swept time.Time
}

type usedSeries struct {
	labels []string
	last   time.Time
	// counters are those of series.counters with these labels; nil until there was something to count.
	counters []prometheus.Counter
}

// amount is what one of series.counters grows by.
type amount struct {
	counter int
	by      float64
}

// count counts a connection under its labels, which it does not keep. It is called twice for each connection, so it makes nothing anew for label sets that are known.
func (s *series) count(labels []string, amounts ...amount) {
	var space [1024]byte
	key := space[:0]
	for _, l := range labels {
		key = append(append(key, l...), 0)
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.used[string(key)]
	if one == nil {
		if len(s.used) >= maxSeries {
			s.sweep(now)
		}
		if len(s.used) < maxSeries {
			one = &usedSeries{labels: slices.Clone(labels), counters: make([]prometheus.Counter, len(s.counters))}
			s.used[string(key)] = one
		} else {
			s.overflow.Inc()
			one = &usedSeries{labels: anonymous(labels), counters: make([]prometheus.Counter, len(s.counters))}
		}
	}
	one.last = now
	for _, a := range amounts {
		if one.counters[a.counter] == nil {
			one.counters[a.counter] = s.counters[a.counter].WithLabelValues(one.labels...)
		}
		one.counters[a.counter].Add(a.by)
	}
}

// sweep forgets what nobody has used for long. mu is held.
func (s *series) sweep(now time.Time) {
	if now.Sub(s.swept) < seriesSweep {
		return
	}
	s.swept = now
	for key, one := range s.used {
		if now.Sub(one.last) < seriesIdle {
			continue
		}
		delete(s.used, key)
		for _, c := range s.counters {
			c.DeleteLabelValues(one.labels...)
		}
	}
}

// anonymous keeps of trafficLabels only those of which there are few values.
func anonymous(labels []string) []string {
	out := make([]string, len(labels))
	for i := range labels {
		name := "" // a locality
		if i < len(trafficLabels) {
			name = trafficLabels[i]
		}
		switch name {
		case "reporter", "request_protocol", "response_flags", "connection_security_policy":
			out[i] = labels[i]
		default:
			out[i] = "unknown"
		}
	}
	return out
}
