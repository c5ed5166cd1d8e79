// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

var (
	farID   = mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "far"}
	farAddr = netip.MustParseAddr("203.0.113.1")
)

// webPod makes pod n with a real HBONE server, in whose streams a web server answers with the pod's name and who asks. stop kills it with its connections.
func (s *scene) webPod(n int) (_ *mesh.Workload, stop func()) {
	s.t.Helper()
	var mu sync.Mutex
	var open []net.Conn
	dead := false
	w := s.tcp(n, func(nc *net.TCPConn) {
		mu.Lock()
		open = append(open, nc)
		gone := dead
		mu.Unlock()
		secure := tls.Server(nc, s.source.Server(podID))
		if gone || secure.HandshakeContext(s.t.Context()) != nil {
			return
		}
		peer, _ := mtls.Peer(secure.ConnectionState())
		conn := hbone.NewServer(secure, hbone.Settings{})
		defer conn.Close()
		streams := &streamListener{conn: conn}
		_ = http.Serve(streams, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "cart-%d %s", n, peer)
		}))
	})
	return w, func() {
		mu.Lock()
		defer mu.Unlock()
		dead = true
		for _, nc := range open {
			nc.Close()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.at, netip.AddrPortFrom(w.Addresses[0], mesh.HBONEPort))
	}
}

// streamListener accepts the streams of a tunnel.
type streamListener struct{ conn *hbone.Conn }

func (l *streamListener) Accept() (net.Conn, error) {
	r, err := l.conn.Accept(context.Background())
	if err != nil {
		return nil, err
	}
	return r.Accept(nil)
}
func (l *streamListener) Close() error   { return nil }
func (l *streamListener) Addr() net.Addr { return &net.TCPAddr{} }

// farCluster starts a real east-west gateway of another network in front of some pods, and gives what our own cluster knows of it.
func (s *scene) farCluster(pods ...*mesh.Workload) (door, behind *mesh.Workload) {
	s.t.Helper()
	live := directory.NewLive()
	listening := make(chan string, 1)
	server, err := NewServer(Options{
		Log: s.server.o.Log, Access: s.server.o.Access, Gateway: mesh.GatewayKey{Namespace: "edge", Name: "far"}, Identity: farID, Network: "far",
		Directory: live, Source: s.source, Metrics: prometheus.NewRegistry(), Dial: s.dial,
		Listen: func(uint16) (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				listening <- l.Addr().String()
			}
			return l, err
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	d := mesh.Delta{
		Workloads: map[string]*mesh.Workload{},
		Services:  map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.Addresses[0].Network = "far" })},
		Gateways: map[mesh.GatewayKey]*mesh.Gateway{{Namespace: "edge", Name: "far"}: {
			Namespace: "edge", Name: "far", Network: "far", ServiceAccount: "far", Exports: []mesh.ServiceKey{cartKey}, TrustDomains: []string{"cluster.local"},
			Listeners: []mesh.Listener{{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerHBONE}},
		}},
	}
	for _, w := range pods {
		w.Network, w.Cluster = "far", "far"
		d.Workloads[w.UID] = w
	}
	live.Apply(d)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Run(ctx)
	}()
	s.t.Cleanup(func() {
		stop()
		server.cut()
		<-ended
	})
	s.mu.Lock()
	s.at[netip.AddrPortFrom(farAddr, mesh.HBONEPort)] = <-listening
	s.mu.Unlock()
	gate := mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: "far", Addr: farAddr}, Port: mesh.HBONEPort}
	return podWorkload(100, func(w *mesh.Workload) {
			w.UID, w.Name, w.Namespace, w.ServiceAccount = "far/gateway", "far", "edge", "far"
			w.Network, w.Cluster, w.Addresses, w.Services = "far", "far", []netip.Addr{farAddr}, nil
		}), podWorkload(101, func(w *mesh.Workload) {
			w.UID, w.Network, w.Cluster, w.Addresses, w.ServiceAccount = "far/split/cart", "far", "far", nil, ""
			w.NetworkGateway, w.Capacity = &gate, uint32(len(pods))
		})
}

// asked gives who answered each of n requests, one after the other over one connection.
func (s *scene) asked(n int) map[string]int {
	s.t.Helper()
	out := map[string]int{}
	client := &http.Client{Timeout: 2 * patience}
	defer client.CloseIdleConnections()
	for range n {
		response, err := client.Get("http://" + s.address(8080) + "/")
		if err != nil {
			s.t.Fatalf("%v\n%s", err, s.logs.text())
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			s.t.Fatalf("%d %s %v\n%s", response.StatusCode, body, err, s.logs.text())
		}
		pod, peer, _ := strings.Cut(string(body), " ")
		if peer != gatewayID.String() {
			s.t.Fatalf("pod %s was asked by %q", pod, peer)
		}
		out[pod]++
	}
	return out
}

// Requests are spread over the pods of both clusters, over tunnels in which the gateway proves itself; they stay near where the service wants that, and go on in the other cluster
// when all pods of one are gone.
func TestRequestsReachOtherClusters(t *testing.T) {
	s := newScene(t, nil)
	here, kill := s.webPod(1)
	second, _ := s.webPod(2)
	third, _ := s.webPod(3)
	door, behind := s.farCluster(second, third)
	route := &mesh.HTTPRoute{Namespace: "edge", Name: "web", Rules: []mesh.HTTPRule{{
		Matches: []mesh.HTTPMatch{{Path: "/"}}, Backends: []mesh.HTTPBackend{{Service: cartKey, Port: 80, Weight: 1}},
	}}}
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = []mesh.Listener{{Name: "web", Port: 8080, Bind: 8080, Protocol: mesh.ListenerHTTP, Routes: []*mesh.HTTPRoute{route}}}
	})
	balance := func(mode mesh.BalanceMode, prefer ...mesh.Scope) {
		s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) {
			svc.SANs, svc.Balance = []string{podID.String()}, mesh.LoadBalancing{Mode: mode, Preference: prefer}
		})}})
	}
	balance(mesh.BalanceSpread)
	s.add(here, door, behind)
	// One of three goes to each: fewer than 8 of 90 have a chance below 1e-7.
	if got := s.asked(90); got["cart-1"] < 8 || got["cart-2"] < 8 || got["cart-3"] < 8 {
		t.Errorf("of 90 requests: %v", got)
	}
	balance(mesh.BalanceFailover, mesh.ScopeNetwork)
	if got := s.asked(30); got["cart-1"] != 30 {
		t.Errorf("with those near first, of 30 requests: %v", got)
	}
	kill()
	if got := s.asked(30); got["cart-1"] != 0 || got["cart-2"]+got["cart-3"] != 30 {
		t.Errorf("with nobody left here, of 30 requests: %v", got)
	}
}

// What is kept under one name is one and the same: another endpoint, identity, service or port has another.
func TestPlacesTellEndpointsApart(t *testing.T) {
	first := gatewayhttp.Endpoint{Workload: podWorkload(1, nil), Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Service: cartService(nil), Port: 80}
	seen := map[string]string{placeOf(first, 0): "the first"}
	for name, change := range map[string]func(*gatewayhttp.Endpoint){
		"another pod": func(e *gatewayhttp.Endpoint) { e.Workload = podWorkload(2, nil) },
		"another identity": func(e *gatewayhttp.Endpoint) {
			e.Workload = podWorkload(1, func(w *mesh.Workload) { w.ServiceAccount = "x" })
		},
		"another address": func(e *gatewayhttp.Endpoint) { e.Addr = netip.MustParseAddrPort("10.0.0.1:8081") },
		"another network": func(e *gatewayhttp.Endpoint) { e.Addr = netip.AddrPort{} },
		"another service": func(e *gatewayhttp.Endpoint) { e.Service = cartService(func(s *mesh.Service) { s.Hostname = "x" }) },
		"another port":    func(e *gatewayhttp.Endpoint) { e.Port = 81 },
	} {
		e := first
		change(&e)
		place := placeOf(e, 0)
		if was, ok := seen[place]; ok {
			t.Errorf("%s has the place of %s", name, was)
		}
		seen[place] = name
	}
	if place := placeOf(first, 1); seen[place] != "" {
		t.Error("two lanes are one")
	}
}
