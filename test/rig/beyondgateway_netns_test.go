// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// certifier issues certificates of the rig's authority to anybody who asks.
type certifier struct{ *ca.Signer }

func (c certifier) Issue(_ context.Context, id mesh.Identity, csr []byte) ([]string, error) {
	return c.Sign(id, csr, time.Hour)
}

// stranger is a peer with a valid identity of another cluster, and tunnels of its own making.
type stranger struct {
	ctx    context.Context
	t      *testing.T
	source *mtls.Source
	id     mesh.Identity
}

func newStranger(ctx context.Context, t *testing.T, r *Rig, account string) *stranger {
	t.Helper()
	signer, err := ca.NewSigner(r.Authority())
	must(t, err)
	source := mtls.NewSource(certifier{signer}, mtls.SourceOptions{})
	t.Cleanup(source.Close)
	return &stranger{ctx, t, source, mesh.Identity{TrustDomain: TrustDomain, Namespace: Namespace, ServiceAccount: account}}
}

// tunnel makes one to whoever proves to be a service account.
func (s *stranger) tunnel(nc net.Conn, namespace, account string) *hbone.Conn {
	s.t.Helper()
	secured := tls.Client(nc, s.source.Client(s.id, []mesh.Identity{{TrustDomain: TrustDomain, Namespace: namespace, ServiceAccount: account}}))
	must(s.t, secured.HandshakeContext(s.ctx))
	conn, err := hbone.NewClient(secured, hbone.Settings{})
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// ask gives the status, and an application's answer to a word.
func (s *stranger) ask(conn *hbone.Conn, authority string) (int, string) {
	s.t.Helper()
	stream, _, err := conn.Open(s.ctx, authority, nil)
	if refused, ok := errors.AsType[*hbone.RefusedError](err); ok {
		return refused.Status, ""
	}
	must(s.t, err)
	defer stream.Close()
	fmt.Fprint(stream, "hello")
	must(s.t, stream.CloseWrite())
	text, err := io.ReadAll(stream)
	must(s.t, err)
	return 200, string(text)
}

// A peer with a valid identity of another cluster, and tunnels of its own making, gets through a gateway to the exported service that it names, and to nothing else that the pod behind it
// has: the gateway cannot read what is asked for inside, so the pod's proxy looks.
func TestNothingBeyondTheGatewayButWhatIsExported(t *testing.T) {
	r, ctx := newRig(t)
	west := r.Cluster("west")
	front, back := must1(west.Node())(t), must1(west.Node())(t)
	proxy := must1(back.StartProxy(ctx, ProxyOptions{Drain: time.Second}))(t)
	cart := must1(back.EnrolledPod(ctx, "cart"))(t)
	west.Service("cart", map[string]string{world.LabelGlobal: "true"}, []uint16{8080}, cart)
	west.Service("inside", nil, []uint16{9090}, cart)
	gateway := must1(front.StartGateway(ctx, "edge"))(t)
	answer(ctx, t, cart, "0.0.0.0:8080")
	answer(ctx, t, cart, "0.0.0.0:9090")
	r.Publish()
	must(t, proxy.Ready(ctx))
	must(t, gateway.Ready(ctx))
	peer := newStranger(ctx, t, r, "till")
	outside := must1(r.NewSpace())(t)
	must1(r.OnFabric(outside, "fabric"))(t)
	outer := peer.tunnel(must1(outside.Dial(ctx, "tcp", gateway.Address.String()+":15008"))(t), SystemNamespace, "edge")
	through, _, err := outer.Open(ctx, "cart.demo.svc.cluster.local:8080", nil)
	must(t, err)
	inner := peer.tunnel(through, Namespace, "cart")
	near := must1(back.Pod("till"))(t)
	straight := peer.tunnel(must1(near.Dial(ctx, "tcp", cart.Address.String()+":15008"))(t), Namespace, "cart")
	for _, at := range []struct {
		authority                     string
		throughGateway, fromInCluster int
	}{
		{"cart.demo.svc.cluster.local:8080", 200, 200},
		{cart.Address.String() + ":8080", 503, 200},
		{cart.Address.String() + ":9090", 503, 200},
		{"inside.demo.svc.cluster.local:9090", 503, 200},
		{"inside.demo.svc.cluster.local:8080", 503, 503},
	} {
		for name, way := range map[string]struct {
			conn *hbone.Conn
			want int
		}{"through the gateway": {inner, at.throughGateway}, "in the cluster": {straight, at.fromInCluster}} {
			if status, text := peer.ask(way.conn, at.authority); status != way.want || status == 200 && text[len(text)-len("\nhello"):] != "\nhello" {
				t.Errorf("%s %s is answered %d %q, want %d", at.authority, name, status, text, way.want)
			}
		}
	}
	counted(ctx, t, proxy, `response_flags="NOT_EXPORTED"`)
}

// counted waits until a proxy's metrics say so: who is refused hears of it before it is counted.
func counted(ctx context.Context, t *testing.T, proxy *Proxy, what string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		metrics := must1(proxy.Space.Get(ctx, "http://127.0.0.1:15020/metrics"))(t)
		if strings.Contains(string(metrics), what) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the refusals are not counted:\n%s", metrics)
		}
	}
}

// Of the services that one pod is behind, a peer reaches through a gateway the one that the gateway's policies let it in for, and no other: the gateway tells the pod's proxy which one that
// was. Where a proxy of the node would not understand that, nothing is said and nothing is lost.
func TestNothingThroughTheGatewayButWhatItLetIn(t *testing.T) {
	r, ctx := newRig(t)
	west := r.Cluster("west")
	front, back := must1(west.Node())(t), must1(west.Node())(t)
	proxy := must1(back.StartProxy(ctx, ProxyOptions{Drain: time.Second}))(t)
	pod := must1(back.EnrolledPod(ctx, "cart"))(t)
	global := map[string]string{world.LabelGlobal: "true"}
	west.Service("cart", global, []uint16{8080, 8081}, pod)
	west.Service("till", global, []uint16{9090}, pod)
	gateway := must1(front.StartGateway(ctx, "edge"))(t)
	for _, port := range []string{"8080", "8081", "9090"} {
		answer(ctx, t, pod, "0.0.0.0:"+port)
	}
	r.Put(&world.AuthorizationPolicy{
		Key: west.key(Namespace, "till"), Action: "DENY", HasTargets: true, Targets: []world.PolicyTarget{{Kind: "Service", Name: "till"}},
		Rules: []world.PolicyRule{{From: []world.PolicySource{{Principals: []string{TrustDomain + "/ns/" + Namespace + "/sa/guest"}}}}},
	})
	r.Publish()
	must(t, proxy.Ready(ctx))
	must(t, gateway.Ready(ctx))
	r.Publish() // what the proxy has said of itself
	guest := newStranger(ctx, t, r, "guest")
	outside := must1(r.NewSpace())(t)
	must1(r.OnFabric(outside, "fabric"))(t)
	outer := guest.tunnel(must1(outside.Dial(ctx, "tcp", gateway.Address.String()+":15008"))(t), SystemNamespace, "edge")
	const cart, cartToo, till = "cart.demo.svc.cluster.local:8080", "cart.demo.svc.cluster.local:8081", "till.demo.svc.cluster.local:9090"
	if status, _ := guest.ask(outer, till); status != 401 {
		t.Fatalf("what the gateway denies is answered %d", status)
	}
	// through gives what is answered inside a stream that the gateway let in for the cart.
	through := func(authority string) int {
		t.Helper()
		stream, _, err := outer.Open(ctx, cart, nil)
		must(t, err)
		defer stream.Close()
		inner := guest.tunnel(stream, Namespace, "cart")
		defer inner.Close()
		status, _ := guest.ask(inner, authority)
		return status
	}
	settle := func(what, authority string, want int) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			status := through(authority)
			if status == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %s is answered %d, want %d", what, authority, status, want)
			}
		}
	}
	settle("let in for the cart", till, 401)
	for authority, want := range map[string]int{cart: 200, cartToo: 401, pod.Address.String() + ":8080": 503} {
		if status := through(authority); status != want {
			t.Errorf("let in for the cart: %s is answered %d, want %d", authority, status, want)
		}
	}
	// The peer's own word comes too late.
	stream, _, err := outer.Open(ctx, cart, nil)
	must(t, err)
	defer stream.Close()
	must1(fmt.Fprint(stream, "\x00isthmus\x00\x05other"))(t)
	if said, err := io.ReadAll(stream); len(said) > 0 {
		t.Errorf("who confines itself is answered %q, %v", said, err)
	}
	counted(ctx, t, proxy, `response_flags="NOT_ADMITTED"`)
	for { // a proxy writes its log beside its work
		log := string(must1(os.ReadFile(proxy.Log))(t))
		if strings.Contains(log, "NOT_ADMITTED") && strings.Contains(log, "demo/"+cart) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the refusals are not logged:\n%s", log)
		}
		time.Sleep(10 * time.Millisecond)
	}

	// An older proxy begins beside it, by which one cannot tell what takes a connection.
	r.Put(&world.Pod{Key: west.key(SystemNamespace, "older"), Node: back.Name, ServiceAccount: "isthmus-nodeproxy", NodeProxy: world.NodeProxyPlain})
	r.Publish()
	settle("beside an older proxy", till, 200)
	settle("beside an older proxy", cart, 200)
}
