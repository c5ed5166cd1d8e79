// SPDX-License-Identifier: Apache-2.0

//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// plane serves discovery and certificates with the product's own parts, and may go away and come back.
type plane struct {
	signer *ca.Signer
	// world is what it tells.
	world mesh.Snapshot
	// unsure says that it begins without having read all clusters, and settle ends that.
	unsure bool
	settle func()
	// away says that it issues no certificates.
	away atomic.Bool
	stop func()
}

// newPlane knows the pod cart-0, which is all of the service cart.
func newPlane(t *testing.T) *plane {
	t.Helper()
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{signer: signer, world: mesh.NewSnapshot()}
	key := mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}
	ports := []mesh.Port{{Service: 80, Target: 8080}}
	p.pod("cart-0", "cart", podAddr, map[mesh.ServiceKey][]mesh.Port{key: ports})
	p.world.Services[key] = &mesh.Service{
		Namespace: "shop", Name: "cart", Hostname: key.Hostname, Ports: ports, Canonical: true,
		Addresses: []mesh.NetworkAddress{{Network: "east", Addr: netip.MustParseAddr("10.96.0.1")}},
	}
	return p
}

func (p *plane) pod(name, account, addr string, services map[mesh.ServiceKey][]mesh.Port) {
	w := &mesh.Workload{
		UID: "east//Pod/shop/" + name, Name: name, Namespace: "shop", Network: "east", Cluster: "east", TrustDomain: "cluster.local",
		ServiceAccount: account, Tunnel: mesh.TunnelHBONE, Capacity: 1, Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Services: services,
	}
	p.world.Workloads[w.UID] = w
}

// start listens on addr, or wherever there is room, and gives the target to dial.
func (p *plane) start(t *testing.T, addr string) (target string) {
	t.Helper()
	authenticate := func(ctx context.Context) error {
		token, cluster, err := xds.Credentials(ctx)
		if err == nil && (token != "the token" || cluster != "east") {
			err = errors.New("other credentials")
		}
		return err
	}
	discovery := xds.NewServer(xds.ServerOptions{Log: logr.Discard(), Authenticate: func(ctx context.Context) (xds.Caller, error) {
		return xds.Caller{Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy"}, authenticate(ctx)
	}})
	authority := ca.NewService(ca.ServiceOptions{Log: logr.Discard(), Signer: func() *ca.Signer { return p.signer }, Authorize: func(ctx context.Context, asked mesh.Identity) (mesh.Identity, error) {
		if asked.IsZero() {
			asked = mesh.Identity{TrustDomain: "cluster.local", Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy"}
		}
		if p.away.Load() {
			return asked, context.DeadlineExceeded
		}
		return asked, authenticate(ctx)
	}})
	discovery.Update(mesh.Diff(mesh.NewSnapshot(), p.world))
	if p.unsure {
		discovery.SetDoubt(func(string) bool { return true })
	}
	p.settle = func() { discovery.SetDoubt(nil) }
	discovery.SetReady()
	config := ca.ServerConfig(func() *ca.Signer { return p.signer }, "localhost")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- xds.Serve(ctx, l, config, discovery, authority) }()
	p.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(p.stop)
	return fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port)
}
