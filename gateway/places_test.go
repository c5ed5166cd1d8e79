// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// tunnelPod makes pod n with a web server behind a real HBONE server, and gives the tunnels that lead there.
func (s *scene) tunnelPod(n int) (*mesh.Workload, func() []*hbone.Conn) {
	s.t.Helper()
	var mu sync.Mutex
	var tunnels []*hbone.Conn
	w := s.tcp(n, func(nc *net.TCPConn) {
		secure := tls.Server(nc, s.source.Server(podID))
		if secure.HandshakeContext(s.t.Context()) != nil {
			return
		}
		conn := hbone.NewServer(secure, hbone.Settings{})
		defer conn.Close()
		mu.Lock()
		tunnels = append(tunnels, conn)
		mu.Unlock()
		_ = http.Serve(&streamListener{conn: conn}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "cart-%d %s", n, gatewayID)
		}))
	})
	s.t.Cleanup(func() { // the gateway keeps its tunnels, which end with it
		s.stop()
		s.server.cut()
		<-s.ended
	})
	return w, func() []*hbone.Conn {
		mu.Lock()
		defer mu.Unlock()
		return append([]*hbone.Conn(nil), tunnels...)
	}
}

// Requests leave a tunnel whose far end drains, although the connection that they had in it is kept; so none is cut when the drain's time is over.
func TestRequestsLeaveTunnelsThatDrain(t *testing.T) {
	for name, far := range map[string]bool{"of our own network": false, "through a gateway": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, nil)
			pod, tunnels := s.tunnelPod(1)
			route := &mesh.HTTPRoute{Namespace: "edge", Name: "web", Rules: []mesh.HTTPRule{{
				Matches: []mesh.HTTPMatch{{Path: "/"}}, Backends: []mesh.HTTPBackend{{Service: cartKey, Port: 80, Weight: 1}},
			}}}
			s.configure(func(g *mesh.Gateway) {
				g.Listeners = []mesh.Listener{{Name: "web", Port: 8080, Bind: 8080, Protocol: mesh.ListenerHTTP, Routes: []*mesh.HTTPRoute{route}}}
			})
			s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.SANs = []string{podID.String()} })}})
			if far {
				s.add(s.farCluster(pod))
			} else {
				s.add(pod)
			}
			s.asked(3)
			first := tunnels()
			if len(first) != 1 {
				t.Fatalf("%d tunnels", len(first))
			}
			drained, cut := context.WithCancel(context.Background())
			over := make(chan error, 1)
			go func() { over <- first[0].Shutdown(drained) }()
			s.until("requests go by another tunnel", func() bool {
				s.asked(1)
				return len(tunnels()) == 2
			})
			cut()
			<-over
			s.asked(3)
			if n := len(tunnels()); n != 2 {
				t.Errorf("%d tunnels in the end", n)
			}
		})
	}
}

// A gateway that is the only way is tried once more, for it may just be replaced.
func TestRequestsTryTheOnlyGatewayAgain(t *testing.T) {
	refused := false
	s := newScene(t, func(o *Options) {
		dial := o.Dial
		o.Dial = func(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
			if to.Addr() == farAddr && !refused { // the first dial is over before another one begins
				refused = true
				return nil, syscall.ECONNREFUSED
			}
			return dial(ctx, to)
		}
	})
	pod, _ := s.tunnelPod(1)
	route := &mesh.HTTPRoute{Namespace: "edge", Name: "web", Rules: []mesh.HTTPRule{{
		Matches: []mesh.HTTPMatch{{Path: "/"}}, Backends: []mesh.HTTPBackend{{Service: cartKey, Port: 80, Weight: 1}},
	}}}
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = []mesh.Listener{{Name: "web", Port: 8080, Bind: 8080, Protocol: mesh.ListenerHTTP, Routes: []*mesh.HTTPRoute{route}}}
	})
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.SANs = []string{podID.String()} })}})
	s.add(s.farCluster(pod))
	s.asked(1)
}
