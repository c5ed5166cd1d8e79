// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// An endpoint whose handshake fails is followed by the next one, whether it is reached in the mesh or out of it, and left out for a while: for who speaks to it by these settings.
func TestEndpointsThatFailTheirHandshake(t *testing.T) {
	for way, serving := range map[string]func(s *scene, n int, f func(net.Conn)) *mesh.Workload{
		"out of the mesh": func(s *scene, n int, f func(net.Conn)) *mesh.Workload {
			return s.outOfMesh(s.tcp(n, func(nc *net.TCPConn) { f(nc) }))
		},
		"in the mesh": func(s *scene, n int, f func(net.Conn)) *mesh.Workload {
			return s.podServing(n, func(_ mesh.Identity, _ string, stream *hbone.Stream) {
				defer stream.Close()
				f(stream)
			})
		},
	} {
		t.Run(way, func(t *testing.T) {
			s := newScene(t, frozen)
			good, wrong := certificateFor(t, "example.com"), certificateFor(t, "example.com")
			speaking := func(n int, proves mesh.Certificate, began *atomic.Int32) *mesh.Workload {
				pair, err := tls.X509KeyPair([]byte(proves.Chain), []byte(proves.Key))
				if err != nil {
					t.Fatal(err)
				}
				return serving(s, n, func(nc net.Conn) {
					began.Add(1)
					secure := tls.Server(nc, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
					if secure.HandshakeContext(t.Context()) == nil {
						fmt.Fprintf(secure, "pod %d\n", n)
						_, _ = io.Copy(io.Discard, secure)
						_ = secure.CloseWrite()
					}
				})
			}
			var began [5]atomic.Int32
			s.add(
				speaking(1, good, &began[1]), speaking(2, wrong, &began[2]),
				serving(s, 3, func(nc net.Conn) { // hangs up
					began[3].Add(1)
					_, _ = nc.Read(make([]byte, 1))
				}),
				serving(s, 4, func(nc net.Conn) { // speaks no TLS
					began[4].Add(1)
					fmt.Fprint(nc, "220 ready\r\n")
					_, _ = io.Copy(io.Discard, nc)
				}),
			)
			expecting := func(cas string) {
				s.configure(func(g *mesh.Gateway) {
					g.BackendTLS = []mesh.BackendTLS{{Service: cartKey, Port: 80, ServerName: "example.com", CAs: cas}}
					g.Listeners = append(g.Listeners, mesh.Listener{
						Name: "ends", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLSTerminate, Certificates: []mesh.Certificate{good}, TLSRoutes: []*mesh.TLSRoute{cartRoute("*.example.com")},
					})
				})
			}
			converse := func() string {
				t.Helper()
				conn, said, err := s.dialTLS("here.example.com")
				if err != nil {
					t.Fatalf("%v\n%s", err, s.logs.text())
				}
				conn.Close()
				return said
			}
			expecting(good.Chain)
			for range 12 {
				if said := converse(); said != "pod 1" {
					t.Fatalf("%q", said)
				}
			}
			for n := 2; n <= 4; n++ {
				if got := began[n].Load(); got != 1 {
					t.Errorf("pod %d was asked %d times by 12 connections, want once", n, got)
				}
			}
			if failures, ejections := s.count("isthmus_gateway_endpoint_tls_failures_total"), s.count("isthmus_gateway_endpoint_ejections_total"); failures != 3 || ejections != 3 {
				t.Errorf("%v failures and %v endpoints left out are counted, want 3", failures, ejections)
			}
			if n := strings.Count(s.logs.text(), "endpoint left out for its TLS"); n != 3 {
				t.Errorf("it is logged %d times", n)
			}
			// What it did not prove is not expected any more: nothing is held against it.
			expecting(good.Chain + wrong.Chain)
			seen := map[string]int{}
			for range 12 {
				seen[converse()]++
			}
			if len(seen) != 2 || seen["pod 1"] == 0 || seen["pod 2"] == 0 {
				t.Errorf("by other settings: %v", seen)
			}
			// Nobody proves what is expected: all are asked, and none is left out for good.
			expecting(certificateFor(t, "example.com").Chain)
			before := began[1].Load()
			for range 3 {
				if _, said, err := s.dialTLS("here.example.com"); err == nil {
					t.Errorf("it said %q", said)
				}
			}
			if got := began[1].Load() - before; got != 3 {
				t.Errorf("when all fail, one was asked %d times by 3 connections", got)
			}
			s.until("it is counted", func() bool { return s.counted("isthmus_gateway_streams_refused_total", ReasonBackendTLS) == 3 })
		})
	}
}
