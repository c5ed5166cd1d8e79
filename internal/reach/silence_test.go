// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

func shopIdentity(name string) mesh.Identity {
	return mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: name}
}

// farSide is a gateway with one pod behind it, over pipes.
type farSide struct {
	source *mtls.Source
	// away: it takes no connection. hangs: it lives, and does not answer a CONNECT. refuses: it answers 404. lost: nothing arrives there any more, nor here.
	away, hangs, refuses, lost atomic.Bool
	// mute: the pod does not shake hands, nor answer. losing: the gateway is lost when the handshake with the pod has begun.
	mute, losing atomic.Bool
}

// cable loses what is written once it is cut.
type cable struct {
	net.Conn
	cut *atomic.Bool
}

func (c *cable) Write(p []byte) (int, error) {
	if c.cut.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (g *farSide) connect(ctx context.Context, _ netip.AddrPort) (relay.Conn, error) {
	if g.away.Load() {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	near, far := net.Pipe()
	go g.serve(&cable{far, &g.lost}, shopIdentity("gate"), g.answer)
	return relay.AsConn(&cable{near, &g.lost}), nil
}

func (g *farSide) serve(nc net.Conn, as mesh.Identity, answer func(*hbone.Request)) {
	secured := tls.Server(nc, g.source.Server(as))
	if secured.HandshakeContext(context.Background()) != nil {
		secured.Close()
		return
	}
	conn := hbone.NewServer(secured, hbone.Settings{PingInterval: -1})
	for {
		request, err := conn.Accept(context.Background())
		if err != nil {
			return
		}
		go answer(request)
	}
}

// answer is the gateway's.
func (g *farSide) answer(request *hbone.Request) {
	switch {
	case g.refuses.Load():
		request.Reject(404, nil)
		return
	case g.hangs.Load():
		<-request.Context().Done()
		return
	}
	stream, err := request.Accept(hbone.Header{{Name: headerEndpoint, Value: "pod"}, {Name: headerEndpoints, Value: "1"}})
	if err != nil {
		return
	}
	defer stream.Close()
	if g.losing.Load() {
		stream.Read(make([]byte, 1))
		g.lost.Store(true)
	}
	if g.mute.Load() {
		io.Copy(io.Discard, stream)
		return
	}
	g.serve(&cable{stream, &g.mute}, shopIdentity("cart"), func(request *hbone.Request) {
		if stream, err := request.Accept(nil); err == nil {
			io.Copy(io.Discard, stream)
			stream.Close()
		}
	})
}

var toCart = Plan{
	Via: DoubleHBONE, Dial: netip.MustParseAddrPort("203.0.113.9:15008"), Gateway: mesh.GatewayAddress{Addr: shop.At("west", "203.0.113.9"), Port: 15008}, Target: "cart.shop.svc.cluster.local:80",
	Next: []mesh.Identity{shopIdentity("gate")}, Last: []mesh.Identity{shopIdentity("cart")}, Endpoint: &mesh.Workload{Network: "west"}, Behind: 1, Picked: "split/west",
}

// onFarSide runs a test in which time passes only when nobody has anything else to do.
func onFarSide(t *testing.T, test func(t *testing.T, g *farSide, tunnels *Tunnels)) {
	synctest.Test(t, func(t *testing.T) {
		authority, err := ca.SelfSigned("cluster.local")
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ca.NewSigner(authority)
		if err != nil {
			t.Fatal(err)
		}
		g := &farSide{source: mtls.NewSource(issuer{signer}, mtls.SourceOptions{})}
		defer g.source.Close()
		tunnels := NewTunnels(TunnelOptions{Certificates: g.source, Connect: g.connect, Settings: hbone.DefaultSettings(), Health: NewHealth(time.Now, noChance)})
		defer tunnels.Close()
		test(t, g, tunnels)
	})
}

func dialCart(t *testing.T, tunnels *Tunnels, patience time.Duration) *Failure {
	return dialPlan(t, tunnels, toCart, patience)
}

func dialPlan(t *testing.T, tunnels *Tunnels, plan Plan, patience time.Duration) *Failure {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, failure := tunnels.Dial(ctx, shopIdentity("client"), plan, nil, "east")
	if failure == nil {
		c.Close()
		c.Finish()
	}
	return failure
}

// Of many connections that want a session that is not there yet, one opens it and the others wait. When their time is over they blame whom it would blame, however much longer it goes on; and it, too, blames
// the gateway if that is lost after it has led to the pod.
func TestWhoWaitsBlamesWhomItWaitsFor(t *testing.T) {
	for _, tc := range []struct {
		name    string
		far     func(*farSide)
		gateway bool
		why     Reason // if there was no tunnel; in one that was there it is what the next one waits for, or that nothing is heard
	}{
		{"a gateway that is away", func(g *farSide) { g.away.Store(true) }, true, ReasonConnect},
		{"a gateway that has fallen silent", func(g *farSide) { g.lost.Store(true) }, true, ReasonConnect},
		{"a gateway that waits for what it dials", func(g *farSide) { g.hangs.Store(true) }, false, ReasonConnect},
		{"a gateway that falls silent", func(g *farSide) { g.losing.Store(true) }, true, ReasonTunnel},
		{"a pod that is silent", func(g *farSide) { g.mute.Store(true) }, false, ReasonConnect},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, old := range []bool{false, true} {
				onFarSide(t, func(t *testing.T, g *farSide, tunnels *Tunnels) {
					if old { // there is a tunnel to the gateway, and no session
						g.refuses.Store(true)
						if failure := dialCart(t, tunnels, attemptTimeout); failure == nil || failure.Status != 404 {
							t.Fatalf("before: %v", failure)
						}
						g.refuses.Store(false)
						time.Sleep(time.Second)
					}
					tc.far(g)
					if !old && g.lost.Load() {
						g.away.Store(true)
					}
					if old && g.away.Load() {
						g.lost.Store(true)
					}
					first := make(chan *Failure)
					go func() { first <- dialCart(t, tunnels, ConnectDeadline-500*time.Millisecond) }()
					time.Sleep(100 * time.Millisecond)
					for _, patience := range []time.Duration{attemptTimeout, rumouredTimeout} {
						if failure := dialCart(t, tunnels, patience); failure == nil || failure.Gateway != tc.gateway || !old && failure.Reason != tc.why {
							t.Errorf("a tunnel was there: %v; with %v: %+v", old, patience, failure)
						}
					}
					if failure := <-first; failure == nil || failure.Gateway != tc.gateway {
						t.Errorf("a tunnel was there: %v; who opens: %+v", old, failure)
					}
				})
			}
		})
	}
}

// Nor is the endpoint blamed for a gateway that falls silent under sessions that are there, be there only the time of a connection that was warned. A pod that is silent behind a gateway that lives is.
func TestSessionsKnowWhoIsSilent(t *testing.T) {
	for _, patience := range []time.Duration{rumouredTimeout, attemptTimeout, ConnectDeadline} {
		for name, gateway := range map[string]bool{"gateway": true, "pod": false} {
			onFarSide(t, func(t *testing.T, g *farSide, tunnels *Tunnels) {
				if failure := dialCart(t, tunnels, attemptTimeout); failure != nil {
					t.Fatal(failure)
				}
				time.Sleep(time.Second)
				if gateway {
					g.lost.Store(true)
				} else {
					g.mute.Store(true)
				}
				if failure := dialCart(t, tunnels, patience); failure == nil || failure.Gateway != gateway {
					t.Errorf("the %s is silent, with %v: %+v", name, patience, failure)
				}
			})
		}
	}
}
