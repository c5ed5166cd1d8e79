// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// countedRoutes are the series of a registry's counters that have a route, as "route code value", sorted.
func countedRoutes(t *testing.T, r *prometheus.Registry) []string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			of := map[string]string{}
			for _, l := range m.GetLabel() {
				of[l.GetName()] = l.GetValue()
			}
			switch route := of["route"]; {
			case route == "":
			case m.GetHistogram() != nil:
				out = append(out, fmt.Sprint(route, " timed ", m.GetHistogram().GetSampleCount()))
			default:
				out = append(out, fmt.Sprint(route, " ", of["code"], " ", m.GetCounter().GetValue()))
			}
		}
	}
	slices.Sort(out)
	return out
}

// routeKeys names the routes n/0, n/1 and so on.
func routeKeys(n int) []mesh.RouteKey {
	var out []mesh.RouteKey
	for i := range n {
		out = append(out, mesh.RouteKey{Namespace: "n", Name: fmt.Sprint(i)})
	}
	return out
}

// A backend may answer with any status: those that are common have a series each, and all others one of their class.
func TestMetricsCodes(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	codes := map[string]bool{}
	for status := range 1100 {
		m.done("n/r", status, ReasonNone, 0)
	}
	for _, series := range countedRoutes(t, r) {
		codes[strings.Fields(series)[1]] = true
	}
	delete(codes, "timed")
	for _, want := range []string{"101", "200", "204", "206", "301", "304", "400", "404", "431", "500", "503", "504", "1xx", "2xx", "3xx", "4xx", "5xx", "other"} {
		if !codes[want] {
			t.Errorf("no series has the code %s", want)
		}
	}
	if len(codes) > len(commonStatuses)+6 || len(codes) > 40 {
		t.Errorf("%d codes: %v", len(codes), codes)
	}
}

// What breaks off is counted by class: a backend chooses the status and whether it breaks off, and has no series for each of both.
func TestMetricsOfWhatBreaksOff(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	for status := range 1100 {
		m.done("n/r", status, ReasonAborted, 0)
	}
	want := []string{"n/r 1xx 100", "n/r 2xx 100", "n/r 3xx 100", "n/r 4xx 100", "n/r 5xx 100", "n/r other 600", "n/r timed 1100"}
	if got := countedRoutes(t, r); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
}

// The series of a route end with it, also if a request to it ends later, and begin anew when it comes back.
func TestMetricsOfRoutesThatGo(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	keys := routeKeys(2)
	m.done("n/early", 200, ReasonNone, 0) // before anybody said which routes there are
	m.keep(slices.Values(keys))
	m.done("n/0", 200, ReasonNone, time.Second)
	m.done("n/0", 503, ReasonNoEndpoint, time.Second)
	m.done("n/1", 200, ReasonNone, time.Second)
	m.done("-", 404, ReasonNoRoute, time.Second)
	m.keep(slices.Values(keys[1:]))
	m.done("n/0", 200, ReasonNone, time.Second)
	m.done("n/1", 200, ReasonNone, time.Second)
	want := []string{"- 404 1", "- timed 1", "n/1 200 2", "n/1 timed 2", "other 200 1", "other timed 1"}
	if got := countedRoutes(t, r); !slices.Equal(got, want) {
		t.Errorf("after a route has gone there are %q, want %q", got, want)
	}
	m.keep(slices.Values(keys))
	m.done("n/0", 200, ReasonNone, time.Second)
	want = slices.Insert(want, 2, "n/0 200 1", "n/0 timed 1")
	if got := countedRoutes(t, r); !slices.Equal(got, want) {
		t.Errorf("after it has come back there are %q, want %q", got, want)
	}
}

// Routes beyond those that have series of their own get them when others have gone, and what no route takes always has its own.
func TestMetricsPlaces(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	keys := routeKeys(maxRouteLabels + 2)
	m.keep(slices.Values(keys))
	for _, k := range keys {
		m.done(k.String(), 200, ReasonNone, 0)
	}
	m.done("-", 404, ReasonNoRoute, 0)
	got := countedRoutes(t, r)
	if want := 2 * (maxRouteLabels + 2); len(got) != want || !slices.Contains(got, "other 200 2") || !slices.Contains(got, "- 404 1") {
		t.Fatalf("%d series, want %d: %q", len(got), want, got)
	}
	m.keep(slices.Values(keys[1:]))
	m.done(keys[maxRouteLabels].String(), 200, ReasonNone, 0)
	m.done(keys[maxRouteLabels+1].String(), 200, ReasonNone, 0)
	got = countedRoutes(t, r)
	if own := keys[maxRouteLabels].String() + " 200 1"; !slices.Contains(got, own) || !slices.Contains(got, "other 200 3") {
		t.Errorf("a place was free: want %q among %q", own, got)
	}
}

func BenchmarkMetricsDone(b *testing.B) {
	m := newMetrics(prometheus.NewRegistry())
	m.keep(slices.Values(routeKeys(500)))
	b.ReportAllocs()
	for b.Loop() {
		m.done("n/7", 200, ReasonNone, time.Millisecond)
	}
}

func BenchmarkMetricsKeep(b *testing.B) {
	m := newMetrics(prometheus.NewRegistry())
	keys := routeKeys(5000)
	for b.Loop() {
		m.keep(slices.Values(keys))
	}
}
