// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"net"
	"os"
	"testing"
)

// IPv6 of a pod whose lo has none, which some networks leave it with, does not pass by the proxy.
func TestIPv6IsCapturedWhereLoopbackHadNone(t *testing.T) {
	s := newStage(t)
	must(t, Inside(s.pod, func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0) }))
	serve(t, s.pod, "app", join("::", 8080), false)
	serve(t, s.pod, "outbound", join("::", PortOutbound), true)
	serve(t, s.pod, "inbound", join("::", PortInbound), true)
	serve(t, s.node, "world", join("::", 80), false)
	o := Options{Inbound: true, DNS: true}
	var err error
	o.IPv6, err = PrepareIPv6(s.pod)
	must(t, err)
	must(t, Repair(s.pod, o))
	asCaller := net.Dialer{Control: socketOptions(t), LocalAddr: &net.TCPAddr{IP: net.ParseIP(nodeV6)}}
	for _, c := range []callCase{
		{"inbound", s.node, net.Dialer{}, join(podV6, 8080), "inbound from=" + nodeV6 + " to=" + join(podV6, 8080)},
		{"outbound", s.pod, net.Dialer{}, join(nodeV6, 80), "outbound from=" + podV6 + " to=" + join(nodeV6, 80)},
		{"the proxy reaches the application with the caller's address", s.pod, asCaller, join(podV6, 8080), "app from=" + nodeV6 + " to=" + join(podV6, 8080)},
	} {
		c.run(t)
	}
}
