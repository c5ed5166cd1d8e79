// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// TestOpenConnectionsOfWhoJoinsAreSpared: those of a pod that joins are told to the kernel, which leaves them alone then. Those of a pod that was captured before, and whose rules are gone, are not:
// they passed by the mesh.
func TestOpenConnectionsOfWhoJoinsAreSpared(t *testing.T) {
	for _, tt := range []struct {
		name, annotation string
		spared           bool
	}{{"joins", "", true}, {"was captured", redirectionEnabled, false}} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, namespace("shop", ""))
			pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
			n.process(uidOf(1), sandbox)
			port := openConnection(t, sandbox)
			if err := annotateCapture(t.Context(), n.client, pod, tt.annotation); err != nil {
				t.Fatal(err)
			}
			n.label(pod, modeAmbient)
			n.start()
			p, _ := n.startProxy()
			n.until("the pod to be served", func() bool { return p.served(pod) })
			if got := tracked(t, sandbox, port); got != tt.spared {
				t.Errorf("known to the kernel: %v, want %v", got, tt.spared)
			}
		})
	}
}

// openConnection opens one that stays silent, from the pod to itself, and gives the port that it comes from.
func openConnection(t *testing.T, sandbox *os.File) (port uint16) {
	t.Helper()
	if err := redirect.Inside(sandbox, func() error {
		l, err := net.Listen("tcp", "10.1.0.1:0")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		port = c.LocalAddr().(*net.TCPAddr).AddrPort().Port()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return port
}

func tracked(t *testing.T, sandbox *os.File, port uint16) bool {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(sandbox.Fd()), unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	flows, err := h.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		if f.Forward.SrcPort == port || f.Forward.DstPort == port {
			return true
		}
	}
	return false
}
