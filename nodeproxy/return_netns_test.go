// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// TestPodThatComesBack leaves the mesh and joins it again while the proxy still takes what comes for it: connections of before, of meanwhile and of after outlive its departure.
func TestPodThatComesBack(t *testing.T) {
	w := newWorld(t)
	w.east.drain = 8 * time.Second // a quarter of it is the time to come back, for a busy machine, too
	first := w.stopEast
	w.east.start()
	first()
	var open []*net.TCPConn
	begin := func() {
		for range 8 {
			nc, err := w.client.dial("10.77.0.3:8080")
			must(t, err)
			t.Cleanup(func() { nc.Close() })
			_, err = nc.Write([]byte("x"))
			must(t, err)
			open = append(open, nc)
		}
		if _, err := w.client.call("10.77.0.3:8080", "x"); err != nil { // the others were taken before
			t.Fatal(err)
		}
	}
	begin()
	must(t, w.east.agent.Del(t.Context(), "client-uid"))
	left := time.Now()
	begin()
	must(t, w.east.agent.Add(t.Context(), zds.Workload{UID: "client-uid", Name: "client", Namespace: "demo", ServiceAccount: "client"}, w.client.file))
	begin()
	if since := time.Since(left); since > w.east.drain/4 {
		t.Fatalf("it took %v to come back, and may take %v", since, w.east.drain/4)
	}
	wait(t, "the end of a departure", func() bool { return time.Since(left) > w.east.drain+200*time.Millisecond })
	for i, nc := range open {
		must(t, nc.CloseWrite())
		if got, err := io.ReadAll(nc); err != nil || string(got) != "east-server 10.77.0.2 x" {
			t.Errorf("connection %d: %q, %v", i, got, err)
		}
	}
	begin()
}
