// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"net"
	"net/netip"
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

// Of who does not answer, the reason says what it did not answer: the time was over before anybody on the way could say more.
func TestReasonOfSilence(t *testing.T) {
	self := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "client"}
	next := []mesh.Identity{{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}}
	nobody := func(ctx context.Context, _ netip.AddrPort) (relay.Conn, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	pod, gate := netip.MustParseAddrPort("10.0.0.1:15008"), netip.MustParseAddrPort("203.0.113.9:15008")
	gateway := mesh.GatewayAddress{Addr: shop.At("west", "203.0.113.9"), Port: 15008}
	for _, tc := range []struct {
		name    string
		plan    Plan
		connect func(context.Context, netip.AddrPort) (relay.Conn, error)
		patient bool // longer than a dial may take
		want    Reason
	}{
		{"a pod's tunnel port", Plan{Via: HBONE, Dial: pod, Next: next, Target: "10.0.0.1:80"}, nobody, false, ReasonNetworkPolicy},
		{"the same, for as long as a dial may take", Plan{Via: HBONE, Dial: pod, Next: next, Target: "10.0.0.1:80"}, nobody, true, ReasonNetworkPolicy},
		{"another port", Plan{Via: HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15010"), Next: next, Target: "10.0.0.1:80"}, nobody, false, ReasonConnect},
		{"a gateway", Plan{Via: DoubleHBONE, Dial: gate, Gateway: gateway, Next: next, Last: next, Target: "cart:80"}, nobody, false, ReasonConnect},
		{"a plain endpoint", Plan{Via: Direct, Dial: netip.MustParseAddrPort("10.0.0.1:80")}, nobody, false, ReasonConnect},
		{"the TLS handshake", Plan{Via: HBONE, Dial: pod, Next: next, Target: "10.0.0.1:80"}, func(context.Context, netip.AddrPort) (relay.Conn, error) {
			ours, _ := net.Pipe() // whose other end reads nothing
			return relay.AsConn(ours), nil
		}, false, ReasonTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				authority, err := ca.SelfSigned("cluster.local")
				if err != nil {
					t.Fatal(err)
				}
				signer, err := ca.NewSigner(authority)
				if err != nil {
					t.Fatal(err)
				}
				source := mtls.NewSource(issuer{signer}, mtls.SourceOptions{})
				defer source.Close()
				tunnels := NewTunnels(TunnelOptions{
					Certificates: source, Connect: tc.connect, Settings: hbone.DefaultSettings(), Health: NewHealth(time.Now, noChance),
				})
				defer tunnels.Close()
				patience := attemptTimeout
				if tc.patient {
					patience = time.Minute
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, failure := tunnels.Dial(ctx, self, tc.plan, nil, "east")
				if failure == nil || failure.Reason != tc.want {
					t.Errorf("%v, want %s", failure, tc.want)
				}
			})
		})
	}
}
