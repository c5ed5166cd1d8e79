// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway"
	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What makes a process of the scoreboard the gateway under test: where it listens, its backend, whether that speaks HTTP/2, and a file for its profile.
const (
	l7Mark    = "SCOREBOARD_L7"
	l7Backend = "SCOREBOARD_L7_BACKEND"
	l7HTTP2   = "SCOREBOARD_L7_HTTP2"
	l7Profile = "SCOREBOARD_L7_PROFILE"
)

// beL7Gateway never returns in a process that was started to be one.
func beL7Gateway() {
	at := os.Getenv(l7Mark)
	if at == "" {
		return
	}
	if err := l7Serve(at); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func l7Serve(at string) error {
	debug.SetGCPercent(gateway.CollectAt) // as the product's process
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if file := os.Getenv(l7Profile); file != "" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	backend, err := netip.ParseAddrPort(os.Getenv(l7Backend))
	if err != nil {
		return err
	}
	app := mesh.AppUnknown
	if os.Getenv(l7HTTP2) != "" {
		app = mesh.AppGRPC
	}
	live := directory.NewLive()
	live.Apply(l7World(backend, app))
	server := gatewayhttp.NewServer(gatewayhttp.Options{
		Log: logr.Discard(), Access: logr.Discard(), Directory: live, Network: func() string { return "east" }, Metrics: prometheus.NewRegistry(),
	})
	port := server.NewPort([]mesh.Listener{{Name: "web", Port: 80, Bind: 80, Protocol: mesh.ListenerHTTP, Routes: []*mesh.HTTPRoute{l7Route("cart", 1)}}})
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if err != nil {
		return err
	}
	go port.Serve(socket)
	<-ctx.Done()
	socket.Close()
	return nil
}

var l7Service = mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}

// l7World has one service with one endpoint.
func l7World(backend netip.AddrPort, app mesh.AppProtocol) mesh.Delta {
	return mesh.Delta{
		Services: map[mesh.ServiceKey]*mesh.Service{l7Service: {
			Namespace: l7Service.Namespace, Name: "cart", Hostname: l7Service.Hostname, Ports: []mesh.Port{{Service: 80, App: app}},
		}},
		Workloads: map[string]*mesh.Workload{"east//Pod/shop/cart": {
			UID: "east//Pod/shop/cart", Name: "cart", Namespace: "shop", Addresses: []netip.Addr{backend.Addr()}, Network: "east", Capacity: 1,
			Services: map[mesh.ServiceKey][]mesh.Port{l7Service: {{Service: 80, Target: backend.Port(), App: app}}},
		}},
	}
}

// l7Route sends every path of a name's host to the service, by as many rules.
func l7Route(name string, rules int) *mesh.HTTPRoute {
	out := &mesh.HTTPRoute{Namespace: "shop", Name: name, Hostnames: []string{name + ".example.com"}}
	for i := range rules {
		path := "/"
		if i > 0 {
			path = fmt.Sprintf("/api/%s/v%d", name, i)
		}
		out.Rules = append(out.Rules, mesh.HTTPRule{
			Matches: []mesh.HTTPMatch{{Path: path}}, Backends: []mesh.HTTPBackend{{Service: l7Service, Port: 80, Weight: 1}},
		})
	}
	return out
}
