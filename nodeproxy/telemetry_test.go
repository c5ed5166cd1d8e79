// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// TestClaimsAreHarmless: what peers say of themselves can neither break the metrics nor fill the memory.
func TestClaimsAreHarmless(t *testing.T) {
	registry := prometheus.NewRegistry()
	x := &Proxy{o: Options{Network: "east"}, metrics: newMetrics(registry), claims: claims{seen: map[party]struct{}{}}}
	for i := range maxClaims + 100 {
		conn := &Connection{Direction: Inbound, Tunnel: reach.DoubleHBONE.String(), Network: "elsewhere"}
		conn.remote = x.inboundParty(conn, hbone.Header{{Name: headerBaggage, Value: fmt.Sprintf("k8s.namespace.name=%%ff%%fe,service.name=s%d", i)}})
		x.metrics.opened(conn)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.GetMetric()); f.GetName() == "istio_tcp_connections_opened_total" && n != maxClaims+1 {
			t.Errorf("%d series, want %d", n, maxClaims+1)
		}
	}
}
