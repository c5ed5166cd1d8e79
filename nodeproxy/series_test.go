// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// TestSeriesAreBounded runs jobs of ever new names: they are counted together when there are too many, and apart again when the old ones are forgotten.
func TestSeriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		m := newMetrics(registry)
		job := 0
		run := func(n int) {
			for range n {
				job++
				conn := &Connection{Direction: Outbound, Tunnel: reach.HBONE.String(), self: &mesh.Workload{Name: fmt.Sprint("job-", job), Namespace: "batch"}}
				m.opened(conn)
			}
		}
		series := func() (n int, unknown float64) {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() != "istio_tcp_connections_opened_total" {
					continue
				}
				n = len(f.GetMetric())
				for _, one := range f.GetMetric() {
					for _, l := range one.GetLabel() {
						if l.GetName() == "source_workload" && l.GetValue() == "unknown" {
							unknown += one.GetCounter().GetValue()
						}
					}
				}
			}
			return n, unknown
		}
		run(maxSeries + 300)
		if n, unknown := series(); n != maxSeries+1 || unknown != 300 || count(t, m.series.overflow) != 300 {
			t.Errorf("%d series, %v connections together, %v said to be; want %d, 300 and 300", n, unknown, count(t, m.series.overflow), maxSeries+1)
		}
		time.Sleep(seriesIdle)
		run(10)
		if n, unknown := series(); n != 11 || unknown != 300 { // the common one stays
			t.Errorf("an hour later: %d series, %v connections together; want 11 and 300", n, unknown)
		}
	})
}

// names are those that were registered.
type names struct {
	prometheus.Registerer
	mu  sync.Mutex
	got []string
}

func (n *names) MustRegister(all ...prometheus.Collector) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range all {
		descs := make(chan *prometheus.Desc, 16)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			n.got = append(n.got, d.String())
		}
	}
}

// TestMetricsAreNamedAsOnTheWire is about dashboards made for ztunnel (hbone.md, part 10).
func TestMetricsAreNamedAsOnTheWire(t *testing.T) {
	got := &names{}
	x := &Proxy{metrics: newMetrics(got)}
	x.metrics.watch(got, x)
	xds.NewClient(xds.ClientOptions{Registerer: got})
	for _, want := range []string{
		"istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total", "istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total",
		"istio_tcp_connections_failed_total", "istio_tcp_sockets_open", "istio_on_demand_dns_total", "istio_crl_policy_rejections_total",
		"istio_dns_requests_total", "istio_dns_upstream_requests_total", "istio_dns_upstream_failures_total", "istio_dns_upstream_request_duration_seconds",
		"istio_xds_connection_terminations_total", "istio_xds_message_total", "istio_xds_message_bytes_total",
		"workload_manager_active_proxy_count", "workload_manager_pending_proxy_count", "workload_manager_proxies_started_total", "workload_manager_proxies_stopped_total",
	} {
		if !slices.ContainsFunc(got.got, func(d string) bool { return describes(d, want) }) {
			t.Errorf("no %s", want)
		}
	}
}

func describes(desc, name string) bool {
	prefix := fmt.Sprintf("Desc{fqName: %q,", name)
	return len(desc) > len(prefix) && desc[:len(prefix)] == prefix
}

// TestLocalityLabels: on request connections are counted by where their ends are, and together when there are too many label sets.
func TestLocalityLabels(t *testing.T) {
	for _, requested := range []bool{false, true} {
		registry := prometheus.NewRegistry()
		var more []string
		if requested {
			more = localityLabels
		}
		m := newMetrics(registry, more...)
		conn := func(i int) *Connection {
			return &Connection{
				Direction: Inbound, Tunnel: reach.HBONE.String(), remote: party{workload: fmt.Sprint("w", i), region: "eu"},
				self: &mesh.Workload{Name: "cart", Locality: mesh.Locality{Region: "us", Zone: "us-1"}},
			}
		}
		m.opened(conn(0))
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range families {
			if f.GetName() == "istio_tcp_connections_opened_total" {
				for _, l := range f.GetMetric()[0].GetLabel() {
					got[l.GetName()] = l.GetValue()
				}
			}
		}
		want := map[string]string{"source_region": "eu", "source_zone": "unknown", "destination_region": "us", "destination_zone": "us-1"}
		for name, value := range want {
			if v, there := got[name]; there != requested || requested && v != value {
				t.Errorf("requested %v: %s=%q", requested, name, v)
			}
		}
		if labels := anonymous(conn(1).labels(nil, ReasonNone)); labels[1] != "unknown" || labels[0] != "destination" {
			t.Errorf("together: %q", labels)
		}
		if !requested {
			continue
		}
		for i := range maxSeries + 10 {
			m.opened(conn(i))
		}
		if n := count(t, m.series.overflow); n != 10 {
			t.Errorf("%v beyond the bound", n)
		}
	}
}

func count(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
