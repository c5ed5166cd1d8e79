// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// TestIPv6ThatComesLate has a pod without IPv6 be served, not even on lo, as while its runtime is still at work, and then get it: all that is captured over it is served, with no restart of the proxy.
func TestIPv6ThatComesLate(t *testing.T) {
	w := newWorld(t)
	w.east.nameServer("dns", "10.77.0.54", "192.0.2.2", twin("10.77.0.54"))
	late := w.east.pod("late", "10.77.0.6", nil)
	late.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
	self := &mesh.Workload{
		UID: "east//Pod/demo/late", Name: "late", Namespace: "demo", ServiceAccount: "client", TrustDomain: trustDomain, Cluster: "east", Network: "east", Tunnel: mesh.TunnelHBONE,
		Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.6"), netip.MustParseAddr(twin("10.77.0.6"))}, Capacity: 1,
	}
	w.east.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{self.UID: self}})
	must(t, redirect.Apply(late.file, redirect.Options{Inbound: true, DNS: true}))
	must(t, w.east.agent.Add(t.Context(), zds.Workload{UID: "late-uid", Name: "late", Namespace: "demo", ServiceAccount: "client"}, late.file))
	late.serveApp("late", ":8080")
	if got, err := late.call("10.77.0.3:8080", "x"); err != nil || got != "east-server 10.77.0.6 x" {
		t.Fatalf("before, over IPv4: %q, %v", got, err)
	}

	late.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
	late.up("eth0", twin("10.77.0.6")+"/64")
	must(t, redirect.Apply(late.file, redirect.Options{Inbound: true, DNS: true, IPv6: true})) // as the agent does when it notices
	for _, network := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{"elsewhere.example.": "192.0.2.2", "remote.demo.svc.cluster.local.": "240.240.0.5"} {
			reply, err := late.ask(network, twin("10.77.0.54"), new(dns.Msg).SetQuestion(name, dns.TypeA))
			if got := lastAddress(reply); err != nil || got != want {
				t.Errorf("%s over %s: %q, %v; want %s", name, network, got, err, want)
			}
		}
	}
	for _, tc := range []struct {
		name     string
		from     *space
		to, want string
	}{
		{"outbound", late, "[fd77::3]:8080", "east-server fd77::6 x"},
		{"inbound in a tunnel", w.client, "[fd77::6]:8080", "late fd77::2 x"},
		{"inbound as it is", w.plain, "[fd77::6]:8080", "late fd77::4 x"},
	} {
		if got, err := tc.from.call(tc.to, "x"); err != nil || got != tc.want {
			t.Errorf("%s over IPv6: %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
}
