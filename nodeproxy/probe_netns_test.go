// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// A pod beside the victim, on the node's bridge, pretends to be the kubelet: it says by ARP (AF_PACKET: CAP_NET_RAW, which containers have by default) that it is
// the victim's gateway, and speaks from the probe address. Here a second address stands for its raw sockets; what is on the wire is the same.
func TestProbeAddressOfAnotherPod(t *testing.T) {
	w := newWorld(t)
	strict := &mesh.Policy{Name: "strict", Namespace: "demo", Scope: mesh.PolicyNamespace, Action: mesh.Deny,
		Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{NotPrincipals: []mesh.StringMatch{{Kind: mesh.MatchPresence}}}}}}}}}
	w.east.view.Apply(mesh.Delta{Policies: map[string]*mesh.Policy{strict.Key(): strict}})
	must(t, redirect.Inside(w.east.node.file, func() error {
		return errors.Join(os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644), os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-ip6tables", []byte("1"), 0o644))
	}))
	attacker := w.plain
	wait(t, "plaintext to be denied", func() bool { _, err := attacker.call("10.77.0.3:8080", "x"); return err != nil })

	attacker.up("eth0", "169.254.7.127/32")
	var mac net.HardwareAddr
	stop := make(chan struct{})
	defer close(stop)
	must(t, redirect.Inside(attacker.file, func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		mac = i.HardwareAddr
		htons := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ARP))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(htons))
		if err != nil {
			return err
		}
		frame := append(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
		frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
		frame = append(append(frame, mac...), 10, 77, 0, 1) // 10.77.0.1 is at the attacker
		frame = append(frame, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 10, 77, 0, 3)
		to := &unix.SockaddrLinklayer{Protocol: htons, Ifindex: i.Index, Halen: 6}
		go func() {
			defer unix.Close(fd)
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					unix.Sendto(fd, frame, 0, to)
				}
			}
		}()
		return nil
	}))
	speak := func() (got string) {
		_ = redirect.Inside(attacker.file, func() error {
			d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP("169.254.7.127")}}
			nc, err := d.Dial("tcp", "10.77.0.3:8080")
			if err != nil {
				return err
			}
			defer nc.Close()
			must(t, nc.SetDeadline(time.Now().Add(time.Second)))
			fmt.Fprint(nc, "secret please")
			must(t, nc.(*net.TCPConn).CloseWrite())
			b, err := io.ReadAll(nc)
			got = string(b)
			return err
		})
		return got
	}
	wait(t, "the attack to succeed against a node without the rules", func() bool { return speak() != "" })
	must(t, redirect.NewProbes(w.east.node.file, 0).Reset(nil))
	if got := speak(); got != "" {
		t.Errorf("a pod without identity reached the application in plaintext under STRICT: %q", got)
	}
}
