// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const remoteVIP = "240.240.0.5:80"

// metric adds up a metric of the proxy that was started last; label is the value of one of its labels, or empty.
func (c *cluster) metric(name, label string) (sum float64) {
	c.t.Helper()
	families, err := c.metrics.Gather()
	must(c.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found := label == ""
			for _, l := range m.GetLabel() {
				found = found || l.GetValue() == label
			}
			if f.GetName() == name && found {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// spread calls the remote service, and says how often each pod answered.
func (w *world) spread(t *testing.T, calls int) map[string]int {
	t.Helper()
	hits := map[string]int{}
	for range calls {
		got, err := w.client.call(remoteVIP, "x")
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(got, " ")
		hits[name]++
	}
	return hits
}

// TestRemotePodsAreSharedEvenly: one handshake with each pod behind the gateway, and the same number of connections to each, whatever comes and goes.
func TestRemotePodsAreSharedEvenly(t *testing.T) {
	w := newWorldOf(t, 3)
	hits := w.spread(t, 30)
	if len(hits) != 3 || hits["west-server"] != 10 || hits["west-server-2"] != 10 || hits["west-server-3"] != 10 {
		t.Errorf("the pods got %v of 30", hits)
	}
	if inner, outer := w.east.metric("isthmus_outbound_handshakes_total", "inner"), w.east.metric("isthmus_outbound_handshakes_total", "outer"); inner != 3 || outer != 1 {
		t.Errorf("%v inner handshakes, %v outer ones", inner, outer)
	}
	wait(t, "connections have ended", func() bool { return w.east.metric("isthmus_inner_streams", "") == 0 })
	if n := w.east.metric("isthmus_inner_sessions", ""); n != 3 {
		t.Errorf("%v sessions are kept", n)
	}

	// Whom the service vouches for is asked when a connection is made, not when its session was.
	service := *w.east.view.Load().Service(remote)
	vouched := service.SANs
	service.SANs = []string{"spiffe://cluster.local/ns/demo/sa/somebody-else"}
	w.east.view.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{remote: &service}})
	if got, err := w.client.call(remoteVIP, "x"); err == nil {
		t.Errorf("a pod that the service does not vouch for answered %q", got)
	}
	again := service
	again.SANs = vouched
	w.east.view.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{remote: &again}})
	wait(t, "the pods, which have failed for that, are used again", func() bool { return len(w.spread(t, 3)) == 3 })

	// A pod that leaves says goodbye to the sessions that it has, and gets nothing new.
	must(t, w.west.agent.Del(t.Context(), "server-2-uid"))
	wait(t, "its session is left", func() bool { return w.east.metric("isthmus_inner_sessions", "") <= 2 })
	wait(t, "the pod does not listen any more", func() bool { return w.west.metric("workload_manager_active_proxy_count", "") == 2 })
	w.spread(t, 12)

	// With the client's pod goes what it had.
	must(t, w.east.agent.Del(t.Context(), "client-uid"))
	wait(t, "the pod's sessions have ended", func() bool { return w.east.metric("isthmus_inner_sessions", "") == 0 })
}
