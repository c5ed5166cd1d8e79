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

// podOfOneFamily is a pod that has an address of one family and nothing of the other.
func (c *cluster) podOfOneFamily(name, addr string, w *mesh.Workload) *space {
	c.t.Helper()
	s := newSpace(c.t)
	at := netip.MustParseAddr(addr)
	if at.Is4() {
		s.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	}
	s.plug(c.node, "eth0", "")
	s.up("eth0", addr+map[bool]string{true: "/24", false: "/64"}[at.Is4()])
	s.via(map[bool]string{true: nodeAddr, false: twin(nodeAddr)}[at.Is4()])
	w.UID, w.Name, w.Namespace, w.Cluster, w.Network = c.name+"//Pod/demo/"+name, name, "demo", c.name, c.name
	w.Addresses, w.TrustDomain, w.Tunnel, w.Capacity = []netip.Addr{at}, trustDomain, mesh.TunnelHBONE, 1
	c.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}})
	has6, err := redirect.PrepareIPv6(s.file) // as the agent does
	must(c.t, err)
	must(c.t, redirect.Apply(s.file, redirect.Options{Inbound: true, DNS: true, IPv6: has6}))
	must(c.t, c.agent.Add(c.t.Context(), zds.Workload{UID: name + "-uid", Name: name, Namespace: "demo", ServiceAccount: w.ServiceAccount}, s.file))
	return s
}

// TestPodsOfOneFamily: pods that have IPv6 alone, or IPv4 alone, call each other and who is not in the mesh, are called in the clear, and have their names answered.
func TestPodsOfOneFamily(t *testing.T) {
	w := newWorld(t)
	w.east.node.up("br0", twin(nodeAddr)+"/64")
	w.east.nameServer("dns", "10.77.0.54", "192.0.2.2", twin("10.77.0.54"))
	for _, family := range []struct {
		name, client, server, plain, nameserver, vip string
		kind                                         uint16
	}{
		{"v4", "10.77.0.21", "10.77.0.22", "10.77.0.4", "10.77.0.54", "10.96.0.30", dns.TypeA},
		{"v6", "fd77::31", "fd77::32", "fd77::4", "fd77::54", "fd96::30", dns.TypeAAAA},
	} {
		t.Run(family.name, func(t *testing.T) {
			key := mesh.ServiceKey{Namespace: "demo", Hostname: "only-" + family.name + ".demo.svc.cluster.local"}
			ports := []mesh.Port{{Service: 80, Target: 8080}}
			w.east.view.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{
				key: {Namespace: "demo", Name: "only-" + family.name, Hostname: key.Hostname, Ports: ports,
					Addresses: []mesh.NetworkAddress{{Network: "east", Addr: netip.MustParseAddr(family.vip)}}},
			}})
			client := w.east.podOfOneFamily("client-"+family.name, family.client, &mesh.Workload{ServiceAccount: "client"})
			server := w.east.podOfOneFamily("server-"+family.name, family.server, &mesh.Workload{ServiceAccount: "server", Services: map[mesh.ServiceKey][]mesh.Port{key: ports}})
			server.serveApp("app", ":8080")
			at := func(addr string, port uint16) string {
				return netip.AddrPortFrom(netip.MustParseAddr(addr), port).String()
			}
			for _, tc := range []struct {
				name     string
				from     *space
				to, want string
			}{
				{"pod", client, at(family.server, 8080), "app " + family.client + " x"},
				{"service", client, at(family.vip, 80), "app " + family.client + " x"},
				{"out of the mesh", client, at(family.plain, 9000), "plain " + family.client + " x"},
				{"into the mesh", w.plain, at(family.server, 8080), "app " + family.plain + " x"},
			} {
				if got, err := tc.from.call(tc.to, "x"); err != nil || got != tc.want {
					t.Errorf("%s: %q, %v; want %q", tc.name, got, err, tc.want)
				}
			}
			for _, network := range []string{"udp", "tcp"} {
				reply, err := client.ask(network, family.nameserver, new(dns.Msg).SetQuestion(key.Hostname+".", family.kind))
				if got := lastAddress(reply); err != nil || got != family.vip {
					t.Errorf("a name of the mesh over %s: %q, %v; want %s", network, got, err, family.vip)
				}
				reply, err = client.ask(network, family.nameserver, new(dns.Msg).SetQuestion("elsewhere.example.", dns.TypeA))
				if got := lastAddress(reply); err != nil || got != "192.0.2.2" {
					t.Errorf("another name over %s: %q, %v", network, got, err)
				}
			}
		})
	}
	w.east.log.find(t, `"tunnel":"hbone"`, `"direction":"inbound"`, `"source":"[fd77::31]:`)
	w.east.log.find(t, `"tunnel":"hbone"`, `"direction":"inbound"`, `"source":"10.77.0.21:`)
}
