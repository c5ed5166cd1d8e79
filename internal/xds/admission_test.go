// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestRefusedBeforeAnyState(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	server.Update(everything(world()))
	for _, token := range []string{"", "bad"} {
		c := dialScript(t, server.addr, token)
		if err := c.stream.Send(wildcard(addressURL)); err != nil {
			t.Log(err) // the server may be faster
		}
		if err := c.end(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("with token %q the stream ended with %v", token, err)
		}
		if r, ok := <-c.got; ok {
			t.Errorf("with token %q came %s", token, describe(r))
		}
	}
}

func TestAuthenticationThatHangsIsBounded(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{
		AuthenticateTimeout: 30 * time.Millisecond, MaxAuthenticating: 1,
		Authenticate: func(ctx context.Context) (Caller, error) { <-ctx.Done(); return Caller{}, ctx.Err() },
	}))
	for range 2 {
		c := dialScript(t, server.addr, "good")
		if err := c.end(); status.Code(err) != codes.Unavailable {
			t.Errorf("stream ended with %v", err)
		}
	}
}

func TestTooManySubscribers(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{MaxSubscribers: 1}))
	first := dialScript(t, server.addr, "good")
	first.say(wildcard(addressURL))
	first.hear()
	if err := dialScript(t, server.addr, "good").end(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("stream ended with %v", err)
	}
}

// TestOneTenantLeavesPlaces: whoever has a token of the mesh may ask, and keeps nobody from asking.
func TestOneTenantLeavesPlaces(t *testing.T) {
	gw := sampleGateway()
	callers := map[string]Caller{
		"proxy":   {Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy", PodUID: "np", Node: "node-7"},
		"gateway": {Namespace: gw.Namespace, ServiceAccount: gw.ServiceAccount, PodUID: "gw", Node: "node-7"},
		"tenant":  {Namespace: "tenant", ServiceAccount: "default", PodUID: "u", Node: "node-7"},
		"second":  {Namespace: "tenant", ServiceAccount: "default", PodUID: "v", Node: "node-8"},
		"other":   {Namespace: "other", ServiceAccount: "default", PodUID: "w", Node: "node-7"},
	}
	server := start(t, "", ready(t, ServerOptions{
		MaxSubscribers: 16,
		Proxies:        func(c Caller) bool { return c.ServiceAccount == "isthmus-nodeproxy" },
		Authenticate: func(ctx context.Context) (Caller, error) {
			token, _, err := Credentials(ctx)
			return callers[token], err
		},
	}))
	server.Update(mesh.Delta{Gateways: map[mesh.GatewayKey]*mesh.Gateway{gw.Key(): gw}})
	server.Update(workloads(pod("a", "", "")))
	ask := func(as string) *script {
		c := dialScript(t, server.addr, as)
		c.say(wildcard(addressURL))
		return c
	}
	answered := func(as string) *script {
		t.Helper()
		c := ask(as)
		wantResponse(t, c.hear(), "+a")
		return c
	}
	refused := func(as string) {
		t.Helper()
		// It need not ask for anything: what it says may come too late to be sent.
		if err := dialScript(t, server.addr, as).end(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: the stream ended with %v", as, err)
		}
	}
	held := answered("tenant")
	answered("second")
	refused("tenant")
	for range 2 {
		answered("other")
	}
	refused("other")
	for _, as := range []string{"proxy", "gateway", "proxy", "gateway"} {
		answered(as)
	}
	if err := held.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); server.Subscribers() > 7; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams after one of 8 has ended", server.Subscribers())
		}
	}
	answered("tenant")
}

func TestPlacesOfOneOwner(t *testing.T) {
	p := newPlaces(20_000)
	proxy := Caller{Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy", PodUID: "np", Node: "node-7"}.owner()
	for range maxOwnStreams {
		if err := p.take(proxy, ofNode); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.take(proxy, ofNode); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
	for range maxOwnStreams {
		p.give(proxy, ofNode)
	}
	if p.taken != 0 || p.by[ofNode] != 0 || len(p.owners) != 0 || len(p.namespaces) != 0 {
		t.Errorf("something is left: %+v", *p)
	}
}

// TestGatewaysLeavePlaces: whoever may write Gateways has as many accounts that are gateways' as there are, on every node, and takes no place of another namespace's gateways with them;
// nor do the gateways of all namespaces take those of node proxies.
func TestGatewaysLeavePlaces(t *testing.T) {
	const most = 20_000
	p := newPlaces(most)
	// fill takes as many as there are for accounts of a namespace.
	fill := func(namespace string, as standing) (taken int) {
		for account := 0; ; account++ {
			for n := range maxOwnStreams {
				of := Caller{Namespace: namespace, ServiceAccount: fmt.Sprint("gw-", account), PodUID: "p", Node: "node-7"}.owner()
				if err := p.take(of, as); err != nil {
					if status.Code(err) != codes.ResourceExhausted {
						t.Fatal(err)
					}
					return taken + n
				}
			}
			taken += maxOwnStreams
		}
	}
	if n := fill("mallory", ofGateway); n != most/8 {
		t.Errorf("gateways of one namespace took %d places of %d", n, most)
	}
	if n := fill("mallory", strange); n != 0 {
		t.Errorf("others of the namespace took %d more", n)
	}
	all := most / 8
	for i := range 8 {
		all += fill(fmt.Sprint("other-", i), ofGateway)
	}
	if all != most*3/4 {
		t.Errorf("gateways took %d places of %d", all, most)
	}
	if n := fill("strangers", strange); n != 0 {
		t.Errorf("others took %d more", n)
	}
	for i := range most / 4 {
		proxy := Caller{Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy", PodUID: "np", Node: fmt.Sprint("node-", i)}.owner()
		if err := p.take(proxy, ofNode); err != nil {
			t.Fatalf("node proxy %d: %v", i, err)
		}
	}
}

func TestStreamThatAsksNothingEnds(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{FirstRequest: 20 * time.Millisecond}))
	if err := dialScript(t, server.addr, "good").end(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("stream ended with %v", err)
	}
}

func TestNobodyIsAnsweredBeforeReady(t *testing.T) {
	s := NewServer(ServerOptions{Log: logs(t), Authenticate: authenticateAs(Caller{})})
	server := start(t, "", s)
	server.Update(workloads(pod("a", "", "")))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	c.silence()
	server.Update(workloads(pod("b", "", "")))
	s.SetReady()
	s.SetReady()
	wantResponse(t, c.hear(), "+a +b")
}

func TestGatewayIsForItselfAlone(t *testing.T) {
	gw := sampleGateway()
	server := start(t, "", ready(t, ServerOptions{Authenticate: authenticateAs(Caller{Namespace: gw.Namespace, ServiceAccount: "somebody-else"})}))
	server.Update(mesh.Delta{Gateways: map[mesh.GatewayKey]*mesh.Gateway{gw.Key(): gw}})
	for _, r := range []*discovery.DeltaDiscoveryRequest{
		{TypeUrl: gatewayURL, ResourceNamesSubscribe: []string{gw.Key().String()}},
		{TypeUrl: gatewayURL, ResourceNamesSubscribe: []string{gw.Key().String(), "*"}},
		{TypeUrl: gatewayURL, InitialResourceVersions: map[string]string{gw.Key().String(): "x"}},
		{TypeUrl: gatewayURL},
	} {
		c := dialScript(t, server.addr, "good")
		c.say(r)
		if got := describe(c.hear()); strings.Contains(got, "+") {
			t.Errorf("%v was answered with %q", r, got)
		}
	}
}

func TestTooManyNames(t *testing.T) {
	asked := &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL}
	for i := range maxSubscribedNames + 1 {
		asked.ResourceNamesSubscribe = append(asked.ResourceNamesSubscribe, fmt.Sprint(i))
	}
	server := start(t, "", ready(t, ServerOptions{}))
	c := dialScript(t, server.addr, "good")
	c.say(asked)
	if err := c.end(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("stream ended with %v", err)
	}
}

// TestAskedAndDropped asks for other names again and again, drops them, and acknowledges nothing: what is to be told must not gather.
func TestAskedAndDropped(t *testing.T) {
	for name, first := range map[string]*discovery.DeltaDiscoveryRequest{
		"on demand":  {TypeUrl: addressURL, ResourceNamesSubscribe: []string{"first"}},
		"everything": wildcard(addressURL),
	} {
		t.Run(name, func(t *testing.T) {
			table, s := newTable(), newSubscription(addressURL, "")
			if err := s.first(first, table, time.Now()); err != nil {
				t.Fatal(err)
			}
			s.next(table, func(*entry) bool { return true }, time.Now())
			const names = maxSubscribedNames / 4
			for i := range 100 {
				r := &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL}
				for n := range names {
					r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, fmt.Sprint(i, "/", n))
				}
				drop := &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesUnsubscribe: r.ResourceNamesSubscribe}
				err := s.more(r, table, time.Now())
				if err == nil {
					err = s.more(drop, table, time.Now())
				}
				if len(s.pending) > 2*maxSubscribedNames {
					t.Fatalf("%d names are to be told after %d rounds of %d", len(s.pending), i+1, names)
				}
				if err != nil {
					return // refused: nothing more gathers
				}
			}
		})
	}
}

func TestClosedServerEndsStreamsAndTakesUpdates(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{Registerer: prometheus.NewRegistry()}))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	c.ack(c.hear())
	server.stop()
	if err := c.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("stream ended with %v", err)
	}
	server.Update(workloads(pod("a", "", "")))
	server.Close()
	if n := server.Subscribers(); n != 0 {
		t.Errorf("%d subscribers are left", n)
	}
}

// There is nothing to hear without TLS, whatever token is shown.
func TestNoPlaintext(t *testing.T) {
	authenticated := make(chan struct{}, 1)
	server := start(t, "", ready(t, ServerOptions{Authenticate: func(context.Context) (Caller, error) {
		authenticated <- struct{}{}
		return Caller{}, nil
	}}))
	conn, err := grpc.NewClient(server.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(
		metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer good"))
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("stream ended with %v", err)
	}
	if len(authenticated) > 0 || server.Subscribers() != 0 {
		t.Error("a caller was heard without TLS")
	}
}
