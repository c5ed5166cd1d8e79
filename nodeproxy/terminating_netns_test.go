// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"io"
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// TestTerminatingPodThatWasNotReady tells a pod to end that was not ready before, so that discovery has nothing new to say of it: its agent has. Peers open new tunnels,
// and what is open goes on.
func TestTerminatingPodThatWasNotReady(t *testing.T) {
	w := newWorld(t)
	begin := func() *net.TCPConn {
		t.Helper()
		nc, err := w.client.dial("10.77.0.3:8080")
		must(t, err)
		t.Cleanup(func() { nc.Close() })
		_, err = nc.Write([]byte("begun "))
		must(t, err)
		wait(t, "the connection", func() bool { return w.server.connectedTo(8080) == 1 })
		return nc
	}
	end := func(nc *net.TCPConn) {
		t.Helper()
		_, err := nc.Write([]byte("ended"))
		must(t, err)
		must(t, nc.CloseWrite())
		if got, err := io.ReadAll(nc); err != nil || string(got) != "east-server 10.77.0.2 begun ended" {
			t.Errorf("the connection from before: %q, %v", got, err)
		}
	}
	// sentAway waits until calls take another tunnel than those from before, and then for the end of the latter with its last stream.
	sentAway := func(why string, before *net.TCPConn) {
		t.Helper()
		wait(t, why+": another tunnel", func() bool {
			if got, err := w.client.call("10.77.0.3:8080", "x"); err != nil || got != "east-server 10.77.0.2 x" {
				t.Fatalf("%s: got %q, %v", why, got, err)
			}
			return w.client.tunnels() == 2
		})
		end(before)
		wait(t, why+": the end of the old tunnel", func() bool { return w.client.tunnels() == 1 })
	}
	before := begin()
	unready := *w.east.view.Load().Workload("east//Pod/demo/server")
	unready.Unhealthy = true
	w.east.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{unready.UID: &unready}})
	sentAway("not ready", before)

	before = begin()
	told := zds.Workload{UID: "server-uid", Name: "server", Namespace: "demo", ServiceAccount: "server"}
	must(t, w.east.agent.Add(t.Context(), told, w.server.file)) // says nothing new
	for range 20 {
		if got, err := w.client.call("10.77.0.3:8080", "x"); err != nil || got != "east-server 10.77.0.2 x" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if n := w.client.tunnels(); n != 1 {
		t.Fatalf("%d tunnels to a pod of which nothing was said, want one", n)
	}
	told.Terminating = true
	must(t, w.east.agent.Add(t.Context(), told, w.server.file))
	sentAway("terminating", before)
}
