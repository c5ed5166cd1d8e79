// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Two clusters are on one network, and one of them has a node on another. What is on the client's network is reached by one tunnel, whichever cluster it is of, and what is on
// the other by a tunnel in a tunnel through that network's gateway, even within the client's own cluster.
func TestNetworksAndClusters(t *testing.T) {
	r, ctx := newRig(t)
	east, west := r.ClusterIn("east", "shared"), r.ClusterIn("west", "shared")
	front, beside, apart := must1(east.Node())(t), must1(west.Node())(t), must1(east.NodeIn("annex"))(t)
	client, other := must1(front.EnrolledPod(ctx, "client"))(t), must1(beside.EnrolledPod(ctx, "other"))(t)
	must(t, front.Masquerade(ctx))
	must(t, beside.Masquerade(ctx))
	proxies := map[*Node]*Proxy{}
	for _, n := range []*Node{front, beside, apart} {
		proxies[n] = must1(n.StartProxy(ctx, ProxyOptions{}))(t)
	}
	global := map[string]string{world.LabelGlobal: "true"}
	at := map[string]string{}
	for name, n := range map[string]*Node{"beside": beside, "apart": apart} {
		pod := must1(n.EnrolledPod(ctx, name))(t)
		serveWeb(ctx, t, pod, name)
		at[name] = n.Cluster.Service(name, global, []uint16{80}, pod).String()
	}
	// Each cluster has the name of the other's service too, and no pods of it.
	at["beside"] = east.Service("beside", global, []uint16{80}).String()
	fromWest := west.Service("apart", global, []uint16{80}).String()
	gateway := must1(apart.StartGateway(ctx, "annex"))(t)
	r.Publish()
	for _, p := range proxies {
		must(t, p.Ready(ctx))
	}
	must(t, gateway.Ready(ctx))
	// That east has pods on another network than its own is believed when west's RemoteCluster says so.
	if body, err := other.Get(ctx, "http://"+fromWest+"/"); err == nil {
		t.Errorf("other to apart, by a network that east may not be on: %q", body)
	}
	r.Put(&world.RemoteCluster{Key: west.key("", "east"), ID: "east", Networks: []string{"annex"}, MaxServices: 10, MaxEndpoints: 10})
	r.Publish()
	for {
		if _, err := other.Get(ctx, "http://"+fromWest+"/"); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, tc := range []struct {
		from        *Pod
		to, service string
		tunnel      string
	}{
		{client, at["beside"], "beside", "hbone"},
		{client, at["apart"], "apart", "double-hbone"},
		{other, fromWest, "apart", "double-hbone"},
	} {
		body, err := tc.from.Get(ctx, "http://"+tc.to+"/")
		if err != nil || string(body) != tc.service {
			t.Errorf("%s to %s: %q, %v", tc.from.Name, tc.service, body, err)
		}
		if got := tunnelTo(ctx, t, proxies[tc.from.Node], fmt.Sprintf("%s.%s.svc.%s:80", tc.service, Namespace, clusterDomain)); got != tc.tunnel {
			t.Errorf("%s reaches %s by %q, want %q", tc.from.Name, tc.service, got, tc.tunnel)
		}
	}
}

// tunnelTo waits for the access log of a connection that was made from the proxy's node to a service, and gives the kind of its tunnel.
func tunnelTo(ctx context.Context, t *testing.T, p *Proxy, service string) string {
	t.Helper()
	for {
		f, err := os.Open(p.Log)
		must(t, err)
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var line struct{ Direction, Service, Tunnel, Reason string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Direction == "outbound" && line.Service == service && line.Reason == "-" {
				f.Close()
				return line.Tunnel
			}
		}
		f.Close()
		if ctx.Err() != nil {
			t.Fatalf("no connection to %s is in the log", service)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
