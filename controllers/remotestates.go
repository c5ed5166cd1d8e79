// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// remoteStates are metrics of how remote clusters are doing, as this replica sees them: what the status of a RemoteCluster says is the leader's. They are looked at when they are asked
// for, and go with the link.
type remoteStates struct {
	remotes *Remotes

	connected, inUse, contact *prometheus.Desc
}

func newRemoteStates(r *Remotes) *remoteStates {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("isthmus_remote_"+name, help, []string{"cluster"}, nil)
	}
	return &remoteStates{
		remotes:   r,
		connected: describe("connected", "1 while the API server of a linked cluster answers, else 0."),
		inUse:     describe("in_use", "1 while what was read of a linked cluster is in use, be it as of its last contact, else 0."),
		contact:   describe("last_contact_timestamp_seconds", "When the API server of a linked cluster answered last. Absent until it does."),
	}
}

// Describe implements prometheus.Collector.
func (s *remoteStates) Describe(out chan<- *prometheus.Desc) {
	out <- s.connected
	out <- s.inUse
	out <- s.contact
}

// Collect implements prometheus.Collector.
func (s *remoteStates) Collect(out chan<- prometheus.Metric) {
	s.remotes.mu.Lock()
	linked := slices.Sorted(maps.Keys(s.remotes.entries))
	s.remotes.mu.Unlock()
	for _, id := range linked {
		state, ok := s.remotes.State(id)
		if !ok {
			continue // unlinked just now
		}
		gauge := func(d *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, string(id))
		}
		gauge(s.connected, truth(state.Health.reachable))
		gauge(s.inUse, truth(state.InUse))
		if at := state.Health.lastContact; !at.IsZero() {
			gauge(s.contact, float64(at.UnixMilli())/1e3)
		}
	}
}

// truth is a condition as a gauge.
func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
