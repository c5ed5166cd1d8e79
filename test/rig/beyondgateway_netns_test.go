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
	signer, err := ca.NewSigner(r.Authority())
	must(t, err)
	source := mtls.NewSource(certifier{signer}, mtls.SourceOptions{})
	t.Cleanup(source.Close)
	id := func(namespace, account string) mesh.Identity {
		return mesh.Identity{TrustDomain: TrustDomain, Namespace: namespace, ServiceAccount: account}
	}
	peer := id(Namespace, "till")
	tunnel := func(nc net.Conn, to mesh.Identity) *hbone.Conn {
		t.Helper()
		secured := tls.Client(nc, source.Client(peer, []mesh.Identity{to}))
		must(t, secured.HandshakeContext(ctx))
		conn, err := hbone.NewClient(secured, hbone.Settings{})
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	outside := must1(r.NewSpace())(t)
	must1(r.OnFabric(outside, "fabric"))(t)
	outer := tunnel(must1(outside.Dial(ctx, "tcp", gateway.Address.String()+":15008"))(t), id(SystemNamespace, "edge"))
	// ask gives the status inside, and the pod's answer to a word.
	ask := func(conn *hbone.Conn, authority string) (int, string) {
		t.Helper()
		stream, _, err := conn.Open(ctx, authority, nil)
		if refused, ok := errors.AsType[*hbone.RefusedError](err); ok {
			return refused.Status, ""
		}
		must(t, err)
		defer stream.Close()
		fmt.Fprint(stream, "hello")
		must(t, stream.CloseWrite())
		text, err := io.ReadAll(stream)
		must(t, err)
		return 200, string(text)
	}
	through, _, err := outer.Open(ctx, "cart.demo.svc.cluster.local:8080", nil)
	must(t, err)
	inner := tunnel(through, id(Namespace, "cart"))
	near := must1(back.Pod("till"))(t)
	straight := tunnel(must1(near.Dial(ctx, "tcp", cart.Address.String()+":15008"))(t), id(Namespace, "cart"))
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
			if status, text := ask(way.conn, at.authority); status != way.want || status == 200 && text[len(text)-len("\nhello"):] != "\nhello" {
				t.Errorf("%s %s is answered %d %q, want %d", at.authority, name, status, text, way.want)
			}
		}
	}
	metrics := must1(proxy.Space.Get(ctx, "http://127.0.0.1:15020/metrics"))(t)
	if !strings.Contains(string(metrics), `response_flags="NOT_EXPORTED"`) {
		t.Errorf("the refusals are not counted:\n%s", metrics)
	}
}
