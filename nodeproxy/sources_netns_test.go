// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What one pod may not reach, the others of its node go on using.
func TestWhatOnePodCannotReach(t *testing.T) {
	w := newWorld(t)
	second := w.east.pod("server-2", "10.77.0.6", &mesh.Workload{ServiceAccount: "server", Services: map[mesh.ServiceKey][]mesh.Port{local: {{Service: 80, Target: 8080}}}})
	second.serveApp("east-server-2", ":8080")
	other := w.east.pod("other", "10.77.0.5", &mesh.Workload{ServiceAccount: "client"})
	answered := func(from *space) map[string]int {
		t.Helper()
		hits := map[string]int{}
		for range 30 {
			got, err := from.call("10.96.0.10:80", "x")
			must(t, err)
			name, _, _ := strings.Cut(got, " ")
			hits[name]++
		}
		return hits
	}
	// As the policy of a network may do it that rejects.
	w.client.run("ip", "route", "add", "unreachable", "10.77.0.6/32")
	wait(t, "the client to find out", func() bool {
		_, err := w.client.call("10.96.0.10:80", "x")
		must(t, err)
		return w.east.metric("isthmus_ejected_endpoints", "") == 1
	})
	if hits := answered(w.client); hits["east-server"] != 30 {
		t.Errorf("the client is answered by %v", hits)
	}
	if hits := answered(other); hits["east-server"] == 0 || hits["east-server-2"] == 0 {
		t.Errorf("the other pod is answered by %v, want both", hits)
	}
}
