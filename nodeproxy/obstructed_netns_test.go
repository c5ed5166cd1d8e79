// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// TestPodThatListensOnOurPort joins the mesh while its application has port 15001. It cannot be served, and keeps no proxy from being ready: an upgrade goes on, and others lose nothing. When
// the application lets go of the port, the pod is served.
func TestPodThatListensOnOurPort(t *testing.T) {
	w := newWorld(t)
	rude := w.east.pod("rude", "10.77.0.6", nil)
	var theirs net.Listener
	must(t, redirect.Inside(rude.file, func() (err error) { theirs, err = net.Listen("tcp", ":15001"); return err }))
	defer theirs.Close()
	self := &mesh.Workload{
		UID: "east//Pod/demo/rude", Name: "rude", Namespace: "demo", ServiceAccount: "client", TrustDomain: trustDomain, Cluster: "east", Network: "east", Tunnel: mesh.TunnelHBONE,
		Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.6")}, Capacity: 1,
	}
	w.east.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{self.UID: self}})
	must(t, redirect.Apply(rude.file, redirect.Options{Inbound: true, DNS: true, IPv6: true}))
	err := w.east.agent.Add(t.Context(), zds.Workload{UID: "rude-uid", Name: "rude", Namespace: "demo", ServiceAccount: "client"}, rude.file)
	if refused, ok := errors.AsType[*zds.RefusedError](err); !ok || !strings.Contains(refused.Error(), "address already in use") {
		t.Fatalf("the agent is told %v", err)
	}

	c := w.callers(t)
	certs, _ := issued(t, w.authority, nil)
	log := &lines{}
	next, _ := w.east.begin(certs, log)
	wait(t, "the next proxy to be ready", func() bool { return len(next.Waits()) == 0 })
	w.stopEast()
	c.more("with the next proxy")
	c.stop()
	if !strings.Contains(log.String(), `"direction":"outbound"`) {
		t.Error("the next proxy took nothing")
	}

	theirs.Close()
	wait(t, "the pod to be served", func() bool {
		got, err := rude.call("10.77.0.3:8080", "x")
		return err == nil && got == "east-server 10.77.0.6 x"
	})
}
