// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/test/fleet"
)

// lightHandshakes is how many connect at once: all together would take each longer than the controller waits for a handshake.
const lightHandshakes = 8

// connectLight is connect for many proxies. The first is the product's client; the others are it, too, but for its gRPC: each has a lightStream.
//
// Proxies run on nodes of their own; here they share the processors with the controller whose time is measured, and a change is with the last of them when all before it
// were served. Over gRPC each has three goroutines that wake one another for every message: one change costs both sides 155 µs of processor time for one proxy, and 104 µs if that
// has a lightStream, while the server's part is the same (BenchmarkProxies; medians of six, on two cores that others used).
//
// What a proxy makes of a response, and how it answers, is the product's in both cases, and the first one is there so that a row fails where the streams differ. The streams do not
// begin anew: broken is told of each that did not open or ended, and why, unless it was by ctx.
func (p *discoveryPlane) connectLight(ctx context.Context, running *sync.WaitGroup, n int, broken func(error)) (*discoveryProxies, error) {
	all := &discoveryProxies{changes: map[news]discoveryChange{}}
	all.add(ctx, p, running, 0)
	var roots *x509.CertPool
	err := p.await(ctx, "there are roots", func() (bool, error) {
		roots = p.roots()
		return roots != nil, nil
	})
	if err != nil {
		return nil, err
	}
	handshakes := make(chan struct{}, lightHandshakes)
	for i := 1; i < n; i++ {
		proxy, options := all.enter(p, i)
		running.Go(func() {
			if err := proxy.carry(ctx, options, roots, handshakes); ctx.Err() == nil {
				broken(fmt.Errorf("proxy %d: %w", i, err))
			}
		})
	}
	return all, all.synced(ctx)
}

// carry opens a stream when it is its turn to, and follows it until it or ctx ends.
func (p *discoveryProxy) carry(ctx context.Context, o xds.ClientOptions, roots *x509.CertPool, turns chan struct{}) error {
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := p.open(ctx, o, roots)
	<-turns
	if err != nil {
		return err
	}
	defer s.close()
	defer context.AfterFunc(ctx, s.close)()
	return p.follow(s)
}

// open begins a stream as the product's client does.
func (p *discoveryProxy) open(ctx context.Context, o xds.ClientOptions, roots *x509.CertPool) (*lightStream, error) {
	token, err := o.Token()
	if err != nil {
		return nil, err
	}
	requests, err := p.client.Hello()
	if err != nil {
		return nil, err
	}
	s, err := openLight(ctx, o.Target, &tls.Config{RootCAs: roots, ServerName: o.ServerName, MinVersion: tls.VersionTLS12},
		discovery.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName,
		[]hpack.HeaderField{{Name: "authorization", Value: "Bearer " + token}, {Name: "clusterid", Value: o.Cluster}})
	if err != nil {
		return nil, err
	}
	for _, r := range requests {
		if err := s.send(r); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// follow hears and answers until the stream ends, and says why it did.
func (p *discoveryProxy) follow(s *lightStream) error {
	for {
		response, err := s.receive()
		if err != nil {
			return err
		}
		answer, err := p.client.Hear(response)
		if answer != nil {
			err = errors.Join(err, s.send(answer))
		}
		if err != nil {
			return err
		}
	}
}

// proxyOptions are those of the client of proxy i, but for what it does.
func (p *discoveryPlane) proxyOptions(i int) xds.ClientOptions {
	name := fmt.Sprintf("nodeproxy-%d", i)
	token := fleet.Token(name)
	return xds.ClientOptions{
		Target: p.address, ServerName: "isthmus-controller." + fleet.SystemNamespace + ".svc",
		RootCAs: p.roots, Token: func() (string, error) { return token, nil }, Cluster: p.local().ID,
		Node:  xds.NodeInfo{ID: "ztunnel~127.0.0.1~" + name + "." + fleet.SystemNamespace + "~" + fleet.SystemNamespace + ".svc.cluster.local"},
		Types: []xds.Type{xds.Addresses(), xds.Policies()},
	}
}
