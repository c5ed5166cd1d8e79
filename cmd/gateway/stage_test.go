// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// plane is a control plane of one process: discovery and certificates, authenticated by tokens that are identities.
type plane struct {
	server  *xds.Server
	signer  *ca.Signer
	address string
	root    string // file
	stop    func() // once; also at the end of the test
}

func startPlane(t *testing.T) *plane {
	t.Helper()
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	caller := func(ctx context.Context) (mesh.Identity, error) {
		token, cluster, err := xds.Credentials(ctx)
		if err == nil && cluster != "west-1" {
			err = fmt.Errorf("cluster %q", cluster)
		}
		if err != nil {
			return mesh.Identity{}, err
		}
		return mesh.ParseIdentity(token)
	}
	p := &plane{signer: signer, root: filepath.Join(t.TempDir(), "root-cert.pem")}
	p.server = xds.NewServer(xds.ServerOptions{Log: logr.Discard(), Authenticate: func(ctx context.Context) (xds.Caller, error) {
		id, err := caller(ctx)
		return xds.Caller{Namespace: id.Namespace, ServiceAccount: id.ServiceAccount}, err
	}})
	service := ca.NewService(ca.ServiceOptions{
		Log: logr.Discard(), Signer: func() *ca.Signer { return signer },
		Authorize: func(ctx context.Context, requested mesh.Identity) (mesh.Identity, error) {
			id, err := caller(ctx)
			if err == nil && !requested.IsZero() && requested != id {
				err = errors.New("no impersonation")
			}
			return id, err
		},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port) // a name: the serving certificate has no addresses
	if err := os.WriteFile(p.root, []byte(signer.RootPEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- xds.Serve(ctx, l, ca.ServerConfig(func() *ca.Signer { return signer }, "localhost"), p.server, service)
	}()
	p.stop = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// source makes a holder of certificates for one identity, straight from the signer.
func (p *plane) source(t *testing.T) *mtls.Source {
	s := mtls.NewSource(direct{p.signer}, mtls.SourceOptions{})
	t.Cleanup(s.Close)
	return s
}

type direct struct{ signer *ca.Signer }

func (d direct) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return d.signer.Sign(id, csrPEM, time.Hour)
}

// freePort finds a port that nobody listens on now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// echoAt is an endpoint that sends back what it gets: a workload on a loopback address of its own, whose HBONE port is the real one.
func echoAt(t *testing.T, pod netip.Addr) {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(pod, mesh.HBONEPort).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(nc, nc)
				nc.Close()
			}()
		}
	}()
}

var cart = mesh.ServiceKey{Namespace: "shop", Hostname: hostname}

// exporting is the configuration of Gateway edge/west, with a policy that lets in nobody to the service but one service account of its namespace.
func exporting(bind uint16, account string) map[mesh.GatewayKey]*mesh.Gateway {
	only := &mesh.Policy{Namespace: "shop", Name: "only", Scope: mesh.PolicyWorkloads, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{
		Matches: []mesh.PolicyMatch{{ServiceAccounts: []mesh.ServiceAccountMatch{{Namespace: "shop", ServiceAccount: account}}}},
	}}}}}
	return map[mesh.GatewayKey]*mesh.Gateway{{Namespace: "edge", Name: "west"}: {
		Namespace: "edge", Name: "west", Network: "west", ServiceAccount: "west", Exports: []mesh.ServiceKey{cart}, TrustDomains: []string{"cluster.local"},
		Listeners:       []mesh.Listener{{Name: "mesh", Port: 15008, Bind: bind, Protocol: mesh.ListenerHBONE}},
		ServicePolicies: []mesh.ServicePolicies{{Service: cart, Policies: []*mesh.Policy{only}}},
	}}
}

// inTheShop is a world of one service with one pod, and a gateway.
func inTheShop(pod netip.Addr, gateways map[mesh.GatewayKey]*mesh.Gateway) mesh.Delta {
	return mesh.Delta{
		Gateways: gateways,
		Services: map[mesh.ServiceKey]*mesh.Service{cart: {Namespace: "shop", Name: "cart", Hostname: hostname, Ports: []mesh.Port{{Service: 80, Target: 8080}}}},
		Workloads: map[string]*mesh.Workload{"west-1//Pod/shop/cart-1": {
			UID: "west-1//Pod/shop/cart-1", Name: "cart-1", Namespace: "shop", Addresses: []netip.Addr{pod}, Network: "west", Cluster: "west-1",
			Tunnel: mesh.TunnelHBONE, TrustDomain: "cluster.local", ServiceAccount: "cart", Capacity: 1,
			Services: map[mesh.ServiceKey][]mesh.Port{cart: {{Service: 80, Target: 8080}}},
		}},
	}
}
