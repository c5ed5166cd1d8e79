// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestNobodyTakesAllPlaces has a peer open as many tunnels to a pod as it can, and a client as many plain connections: of tunnels it gets half of the places, so that others
// are served; that there are no more of the others, the proxy says.
func TestNobodyTakesAllPlaces(t *testing.T) {
	const most = 8
	authority, err := ca.SelfSigned(trustDomain)
	must(t, err)
	east := newCluster(t, "east", authority)
	east.cramped = most
	east.start()
	east.pod("server", "10.77.0.3", &mesh.Workload{ServiceAccount: "server"}).serveApp("east-server", ":8080")
	plain := east.pod("plain", "10.77.0.4", nil)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tunnel := func(account string) *hbone.Conn {
		t.Helper()
		nc, err := plain.dial("10.77.0.3:15008")
		must(t, err)
		secured := tls.Client(hbone.NewTransport(nc), east.certs.Client(
			mesh.Identity{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: account}, []mesh.Identity{{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: "server"}}))
		must(t, secured.HandshakeContext(ctx))
		conn, err := hbone.NewClient(secured, hbone.DefaultSettings())
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	serves := func(conn *hbone.Conn) bool {
		stream, _, err := conn.Open(ctx, "10.77.0.3:8080", nil)
		if err != nil {
			return false
		}
		return stream.Close() == nil
	}
	var greedy []*hbone.Conn
	for range most {
		conn := tunnel("greedy")
		if serves(conn) {
			greedy = append(greedy, conn)
		}
	}
	if len(greedy) != most/2 {
		t.Errorf("one identity has %d tunnels of %d places, want half", len(greedy), most)
	}
	if !serves(tunnel("modest")) {
		t.Error("another identity is not served")
	}
	if got := east.metric("isthmus_handshake_failures_total", "CROWDED"); got != most/2 {
		t.Errorf("%v were counted as one too many, want %d", got, most/2)
	}
	must(t, greedy[0].Close())
	wait(t, "a place that was given back", func() bool { return serves(tunnel("greedy")) })

	var open []*net.TCPConn
	for range most {
		nc, err := plain.dial("10.77.0.3:8080")
		must(t, err)
		t.Cleanup(func() { nc.Close() })
		_, err = nc.Write([]byte("x"))
		must(t, err)
		open = append(open, nc)
	}
	wait(t, "that there is no place is counted", func() bool { return east.metric("isthmus_connection_limit_total", "plaintext") == 1 })
	east.log.find(t, `"a pod has as many connections as it may`, `"workload":"demo/server"`, `"listener":"plaintext"`)
	answered := make(chan error, 1)
	go func() {
		_, err := plain.call("10.77.0.3:8080", "x")
		answered <- err
	}()
	must(t, open[0].Close())
	must(t, <-answered)
}
