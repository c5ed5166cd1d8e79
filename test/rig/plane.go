// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	clusterDomain = "cluster.local"
	// planePort is where each namespace that is served finds the control plane, on its loopback.
	planePort = "15012"
	// Controller is how programs in a served namespace are told of the control plane.
	Controller = "localhost:" + planePort
)

// plane is a cluster's control plane: translation, discovery and certificates, without the API server that would tell it of the world.
type plane struct {
	rig       *Rig
	config    world.Config
	discovery *xds.Server
	authority *ca.Service
	told      mesh.Snapshot
}

func newPlane(r *Rig, config world.Config) *plane {
	p := &plane{rig: r, config: config, told: mesh.NewSnapshot()}
	p.discovery = xds.NewServer(xds.ServerOptions{Log: logr.Discard(), Authenticate: func(ctx context.Context) (xds.Caller, error) {
		id, err := p.caller(ctx)
		return xds.Caller{Namespace: id.Namespace, ServiceAccount: id.ServiceAccount}, err
	}})
	p.authority = ca.NewService(ca.ServiceOptions{Log: logr.Discard(), Signer: func() *ca.Signer { return r.signer }, Authorize: func(ctx context.Context, asked mesh.Identity) (mesh.Identity, error) {
		id, err := p.caller(ctx)
		if asked.IsZero() {
			asked = id
		}
		return asked, err
	}})
	return p
}

// caller believes what a token says: which identity it is of, as "namespace/service-account".
func (p *plane) caller(ctx context.Context) (mesh.Identity, error) {
	token, cluster, err := xds.Credentials(ctx)
	if err != nil {
		return mesh.Identity{}, err
	}
	namespace, account, ok := strings.Cut(strings.TrimSpace(token), "/")
	if !ok || cluster != string(p.config.LocalCluster) {
		return mesh.Identity{}, errors.New("not a token of this cluster")
	}
	return mesh.Identity{TrustDomain: TrustDomain, Namespace: namespace, ServiceAccount: account}, nil
}

// publish translates the world and tells subscribers what is different. The first one makes discovery ready.
func (p *plane) publish(state *world.State) {
	now := translate.Build(state, p.config).Mesh
	p.discovery.Update(mesh.Diff(p.told, now))
	p.told = now
	p.discovery.SetReady()
}

// serve makes the control plane reachable on the loopback of a namespace, until the returned function is called or the rig is closed.
func (p *plane) serve(in *Space) (stop func(), err error) {
	l, err := in.Listen(p.rig.alive, "tcp4", net.JoinHostPort("127.0.0.1", planePort))
	if err != nil {
		return nil, fmt.Errorf("serve the control plane: %w", err)
	}
	ctx, cancel := context.WithCancel(p.rig.alive)
	done := make(chan struct{})
	p.rig.running.Go(func() {
		defer close(done)
		// An end in disorder shows at whoever needed it. Only the certificates are of a kind that may be served several times over.
		_ = xds.Serve(ctx, l, ca.ServerConfig(func() *ca.Signer { return p.rig.signer }, "localhost"), shared{p.discovery}, shared{p.authority})
	})
	return func() { cancel(); <-done }, nil
}

// shared is a service that goes on when one of those who offer it ends.
type shared struct{ xds.Service }
