// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// serveWeb has a pod answer requests with a word.
func serveWeb(ctx context.Context, t *testing.T, p *Pod, word string) {
	t.Helper()
	l, err := p.Listen(ctx, "tcp", "0.0.0.0:80")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, word) })}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }() // says that it was closed
	t.Cleanup(func() { server.Close(); <-ended })
}

// A Gateway's route leads to a service that two clusters have: its requests are spread over both, and go on in the other one when the node proxy in front of the pods of one is killed.
func TestRequestsGoOnInTheOtherCluster(t *testing.T) {
	r, ctx := newRig(t)
	var proxies []*Proxy
	var gateways []*Gateway
	clusters := []*Cluster{r.Cluster("east"), r.Cluster("west")}
	for _, c := range clusters {
		front, back := must1(c.Node())(t), must1(c.Node())(t)
		proxies = append(proxies, must1(back.StartProxy(ctx, ProxyOptions{Drain: time.Second}))(t))
		cart := must1(back.Pod("cart"))(t)
		must(t, cart.Enrol(ctx))
		c.Service("cart", map[string]string{world.LabelGlobal: "true"}, []uint16{80}, cart)
		gateways = append(gateways, must1(front.StartGateway(ctx, "edge"))(t))
		serveWeb(ctx, t, cart, c.Name)
	}
	east := clusters[0]
	r.Put(
		&world.Gateway{
			Key: east.key(SystemNamespace, "edge"), Class: "eastwest", Network: "east", ServiceAccount: "edge", Created: 1,
			Listeners: []world.Listener{{Name: "web", Port: 8080, Protocol: "HTTP"}},
			Status:    []world.GatewayAddress{{Type: "IPAddress", Value: gateways[0].Address.String()}},
		},
		&world.HTTPRoute{
			Key: east.key(SystemNamespace, "cart"), Parents: []world.RouteParent{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: SystemNamespace, Name: "edge"}},
			Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
				Namespace: ptr.To(gatewayv1.Namespace(Namespace)), Name: "cart", Port: ptr.To[gatewayv1.PortNumber](80),
			}}}}}},
		},
		&world.ReferenceGrant{
			Key: east.key(Namespace, "edge"), From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Namespace: SystemNamespace}}, To: []world.GrantTo{{Kind: "Service"}},
		},
	)
	r.Publish()
	visitor := must1(east.Nodes[0].Pod("visitor"))(t)
	for i := range clusters {
		must(t, proxies[i].Ready(ctx))
		must(t, gateways[i].Ready(ctx))
	}
	url := "http://" + gateways[0].Pod.Address.String() + ":8080/"
	asked := func(n int) map[string]int {
		t.Helper()
		out := map[string]int{}
		for range n {
			body, err := visitor.Get(ctx, url)
			must(t, err)
			out[string(body)]++
		}
		return out
	}
	// Ready says that the port is bound, not that a route came with it: the first answer does.
	for {
		if _, err := visitor.Get(ctx, url); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Each gets half: fewer than 5 of 60 have a chance below 1e-11.
	if got := asked(60); got["east"] < 5 || got["west"] < 5 {
		t.Errorf("of 60 requests: %v", got)
	}
	must(t, proxies[0].Kill())
	if got := asked(60); got["west"] != 60 {
		t.Errorf("without the proxy of the pods here, of 60 requests: %v", got)
	}
}

// must1 gives the value of a call that must not fail.
func must1[V any](v V, err error) func(*testing.T) V {
	return func(t *testing.T) V {
		t.Helper()
		must(t, err)
		return v
	}
}
