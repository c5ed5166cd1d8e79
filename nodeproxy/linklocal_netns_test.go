// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// linkLocal is the address of the space's device on its link.
func (s *space) linkLocal() (addr string) {
	s.t.Helper()
	must(s.t, redirect.Inside(s.file, func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := i.Addrs()
		for _, a := range addrs {
			if ip := a.(*net.IPNet).IP; ip.IsLinkLocalUnicast() && ip.To4() == nil {
				addr = ip.String() + "%eth0"
			}
		}
		return err
	}))
	return addr
}

// TestLinkLocalIPv6: an application reaches a link-local address of its link, as without the mesh.
func TestLinkLocalIPv6(t *testing.T) {
	w := newWorld(t)
	w.client.reach(w.plain)
}

// reach waits until an application in another space, at port 9000, answers at that one's link-local address.
func (s *space) reach(other *space) {
	s.t.Helper()
	to := net.JoinHostPort(other.linkLocal(), "9000")
	wait(s.t, "an answer from "+to, func() bool { // the kernel looks for duplicates of the address first
		got, err := s.call(to, "hello")
		return err == nil && strings.HasSuffix(got, "hello")
	})
}

// TestLinkLocalNameserver: a pod's server may be known by an address on the pod's link alone, as a router is that announces itself. It answers as without the mesh.
func TestLinkLocalNameserver(t *testing.T) {
	w := newWorld(t)
	router := w.east.pod("router", "10.77.0.53", nil)
	router.serveDNS(dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 5 IN A 192.0.2.1")
		reply.Answer = append(reply.Answer, rr)
		rw.WriteMsg(reply)
	}), "::")
	router.serveApp("router", ":9000")
	w.client.reach(router)
	for _, network := range []string{"udp", "tcp"} {
		reply, err := w.client.ask(network, router.linkLocal(), new(dns.Msg).SetQuestion("elsewhere.example.", dns.TypeA))
		if got := lastAddress(reply); err != nil || got != "192.0.2.1" {
			t.Errorf("over %s: %q, %v", network, got, err)
		}
	}
}
