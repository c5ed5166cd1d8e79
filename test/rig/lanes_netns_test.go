// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/lab/line"
)

// sessions are the inner tunnels that the node's proxy keeps, and handshakes the outer ones that it has made.
func sessions(ctx context.Context, t *testing.T, p *Proxy) (inner, outer int) {
	t.Helper()
	metrics := must1(p.Space.Get(ctx, "http://127.0.0.1:15020/metrics"))(t)
	value := func(name string) int {
		found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\d+)$`).FindSubmatch(metrics)
		if found == nil {
			return 0
		}
		n, err := strconv.Atoi(string(found[1]))
		must(t, err)
		return n
	}
	return value("isthmus_inner_sessions"), value(`isthmus_outbound_handshakes_total{tunnel="outer"}`)
}

// Connections to one pod of another cluster share a tunnel and its TCP connection, until the way is long.
func TestConnectionsOverALongWayShareLess(t *testing.T) {
	for name, tc := range map[string]struct {
		delay time.Duration // of each direction
		want  int           // tunnels, inner and outer ones
	}{
		"a short way": {20 * time.Millisecond, 1},
		"a long way":  {60 * time.Millisecond, 4},
	} {
		t.Run(name, func(t *testing.T) {
			r, ctx := newRig(t)
			east, west := r.Cluster("east"), r.Cluster("west")
			front, back := must1(east.Node())(t), must1(west.Node())(t)
			must(t, front.Masquerade(ctx))
			near, far := must1(front.StartProxy(ctx, ProxyOptions{}))(t), must1(back.StartProxy(ctx, ProxyOptions{}))(t)
			client, server := must1(front.EnrolledPod(ctx, "client"))(t), must1(back.EnrolledPod(ctx, "cart"))(t)
			answer(ctx, t, server, "0.0.0.0:8080")
			gateway := must1(back.StartGateway(ctx, "edge"))(t)
			key := west.key(SystemNamespace, translate.ResourceName("edge"))
			r.Put(&world.EndpointSlice{
				Key: west.key(SystemNamespace, key.Name+"-1"), Service: key.Name, Ports: []world.EndpointPort{{Name: "mesh", Port: gatewayPort}},
				Endpoints: []world.Endpoint{{Pod: gateway.Pod.Name, Addresses: []netip.Addr{gateway.Pod.Address}, Node: back.Name, Ready: true}},
			})
			global := map[string]string{world.LabelGlobal: "true"}
			cart := netip.AddrPortFrom(east.Service("cart", global, []uint16{8080}), 8080).String()
			west.Service("cart", global, []uint16{8080}, server)
			r.Publish()
			for _, one := range []interface{ Ready(context.Context) error }{near, far, gateway} {
				must(t, one.Ready(ctx))
			}
			must1(front.Wire())(t).Set(line.Shape{Delay: tc.delay})

			inner, outer := 0, 0
			for n, deadline := 0, time.Now().Add(patience); n < 16 || inner != tc.want || outer != tc.want; n++ {
				if inner > tc.want || outer > tc.want || time.Now().After(deadline) {
					t.Fatalf("for %d connections there are %d inner tunnels, and %d outer ones were made; want %d of each", n, inner, outer, tc.want)
				}
				c, err := client.Dial(ctx, "tcp", cart)
				must(t, err)
				t.Cleanup(func() { c.Close() })
				c.SetDeadline(time.Now().Add(patience))
				if _, err := io.ReadFull(c, make([]byte, 2)); err != nil { // it is answered
					t.Fatal(err)
				}
				inner, outer = sessions(ctx, t, near)
			}
		})
	}
}
