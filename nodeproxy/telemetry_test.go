// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// TestClaimsAreHarmless: what peers say of themselves can neither break the metrics nor fill the memory.
func TestClaimsAreHarmless(t *testing.T) {
	registry := prometheus.NewRegistry()
	x := &Proxy{o: Options{Network: "east"}, metrics: newMetrics(registry), claims: newClaims()}
	for i := range maxClaimsOfPeer + 100 {
		conn := &Connection{Direction: Inbound, Tunnel: reach.DoubleHBONE.String(), Network: "elsewhere"}
		conn.remote = x.inboundParty(conn, hbone.Header{{Name: headerBaggage, Value: fmt.Sprintf("k8s.namespace.name=%%ff%%fe,service.name=s%d", i)}})
		x.metrics.opened(conn)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.GetMetric()); f.GetName() == "istio_tcp_connections_opened_total" && n != maxClaimsOfPeer+1 {
			t.Errorf("%d series, want %d", n, maxClaimsOfPeer+1)
		}
	}
}

// counted opens and ends a connection as far as telemetry goes.
func counted(x *Proxy, self *mesh.Workload) {
	conn := &Connection{
		Direction: Inbound, Tunnel: reach.HBONE.String(), Opened: time.Now(), Pod: "shop/cart-1", Service: "10.1.2.3:8080", self: self, remote: partyOf(self),
		Source: netip.MustParseAddrPort("10.1.1.1:1234"), Destination: netip.MustParseAddrPort("10.1.2.3:8080"),
	}
	x.metrics.opened(conn)
	x.ended(conn, 200, nil)
}

// TestCountingAllocatesLittle: to count a connection and to write its line is most of what is ours to save of a short one.
func TestCountingAllocatesLittle(t *testing.T) {
	x, self := telemetryStage()
	if n := testing.AllocsPerRun(100, func() { counted(x, self) }); n > 12 {
		t.Errorf("%v allocations for each connection, want 12 at most", n)
	}
}

func BenchmarkCounted(b *testing.B) {
	x, self := telemetryStage()
	b.ReportAllocs()
	for b.Loop() {
		counted(x, self)
	}
}

func telemetryStage() (*Proxy, *mesh.Workload) {
	return &Proxy{metrics: newMetrics(prometheus.NewRegistry()), access: slog.NewJSONHandler(io.Discard, nil)},
		&mesh.Workload{Name: "cart-1", Namespace: "shop", ServiceAccount: "cart", TrustDomain: "cluster.local", Cluster: "east", WorkloadName: "cart"}
}
