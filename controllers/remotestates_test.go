// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestRemoteStates: it can be seen without its status whether a cluster answers, whether what it said is in use, and since when not; of one that is unlinked nothing is left.
func TestRemoteStates(t *testing.T) {
	r := testRemotes()
	registry := prometheus.NewRegistry()
	registry.MustRegister(newRemoteStates(r))
	check := func(when string, want map[string]float64) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("none is linked", map[string]float64{})
	live := reads(r, "p")
	r.entries["west"] = &entry{live: live}
	r.entries["north"] = &entry{next: &connection{feed: live.feed, config: live.config}}
	live.update(func(h *health) { h.lastContact = time.Unix(1000, 0) })
	want := map[string]float64{
		"isthmus_remote_connected west": 1, "isthmus_remote_in_use west": 1, "isthmus_remote_last_contact_timestamp_seconds west": 1000,
		"isthmus_remote_connected north": 0, "isthmus_remote_in_use north": 0,
	}
	check("one answers, one never did", want)
	live.update(func(h *health) { h.reachable = false })
	want["isthmus_remote_connected west"] = 0
	check("one is lost", want)
	r.mu.Lock()
	delete(r.entries, "west")
	delete(r.entries, "north")
	r.mu.Unlock()
	check("none is linked any more", map[string]float64{})
}
