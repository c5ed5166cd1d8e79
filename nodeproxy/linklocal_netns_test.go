// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"net"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// TestLinkLocalIPv6: an application reaches a link-local address of its link, as without the mesh.
func TestLinkLocalIPv6(t *testing.T) {
	w := newWorld(t)
	var to string
	must(t, redirect.Inside(w.plain.file, func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := i.Addrs()
		for _, a := range addrs {
			if ip := a.(*net.IPNet).IP; ip.IsLinkLocalUnicast() && ip.To4() == nil {
				to = "[" + ip.String() + "%eth0]:9000"
			}
		}
		return err
	}))
	wait(t, "an answer from "+to, func() bool { // the kernel looks for duplicates of the address first
		got, err := w.client.call(to, "hello")
		return err == nil && strings.HasSuffix(got, "hello")
	})
}
