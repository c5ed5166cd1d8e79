// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// TestVirtualInterfaces: what comes from behind a device that a pod names, from a virtual machine for example, goes into the mesh as what the pod itself opens.
func TestVirtualInterfaces(t *testing.T) {
	w := newWorld(t)
	h := w.client.handle()
	must(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	h.Close()
	machine := newSpace(t)
	machine.plug(w.client, "eth0", "172.30.0.2/24")
	machine.up("eth0", "fd30::2/64")
	w.client.up("br0", "172.30.0.1/24")
	w.client.up("br0", "fd30::1/64")
	machine.via("172.30.0.1")
	machine.via("fd30::1")
	must(t, redirect.Apply(w.client.file, redirect.Options{Inbound: true, DNS: true, IPv6: true, VirtualInterfaces: []string{"br0"}}))
	for to, want := range map[string]string{
		"10.96.0.10:80":    "east-server 10.77.0.2 x",
		"10.77.0.3:8080":   "east-server 10.77.0.2 x",
		"[fd77::3]:8080":   "east-server fd77::2 x",
		"240.240.0.5:80":   "west-server " + gatewayPod + " x",
		"10.77.0.4:9000":   "plain 10.77.0.2 x",
		"172.30.0.1:15001": "", // the proxy itself
	} {
		if got, err := machine.call(to, "x"); got != want || want != "" && err != nil {
			t.Errorf("%s: %q, %v; want %q", to, got, err, want)
		}
	}
	w.east.log.find(t, `"direction":"outbound"`, `"workload":"demo/client"`, `"tunnel":"hbone"`, `"source":"172.30.0.2:`)
	w.east.log.find(t, `"direction":"inbound"`, `"workload":"demo/server"`, `"tunnel":"hbone"`, `"peer":"spiffe://cluster.local/ns/demo/sa/client"`)
}
