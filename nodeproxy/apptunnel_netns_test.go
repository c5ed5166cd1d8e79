// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// serveTold listens in a pod as a waypoint behind the node proxy does: it reads a PROXY header, then to the end, and answers with all of it.
func (s *space) serveTold(addr string) {
	s.t.Helper()
	var l net.Listener
	must(s.t, redirect.Inside(s.file, func() error {
		var err error
		l, err = net.Listen("tcp", addr)
		return err
	}))
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer nc.Close()
				told, err := readProxyHeader(nc)
				if err != nil {
					return
				}
				if body, err := io.ReadAll(nc); err == nil {
					fmt.Fprintf(nc, "from %s %s: %s", addrOf(nc.RemoteAddr()), told, body)
				}
			})
		}
	})
	s.t.Cleanup(func() { l.Close(); running.Wait() })
}

// readProxyHeader reads version 2 over TCP, as its specification has it, and writes down what it says.
func readProxyHeader(r io.Reader) (string, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	size, ok := map[byte]int{0x11: 4, 0x21: 16}[head[13]]
	if string(head[:12]) != "\r\n\r\n\x00\r\nQUIT\n" || head[12] != 0x21 || !ok {
		return "", fmt.Errorf("header %x", head)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return "", err
	}
	from, _ := netip.AddrFromSlice(body[:size])
	to, _ := netip.AddrFromSlice(body[size : 2*size])
	out := fmt.Sprintf("%v>%v:%d", from, to, binary.BigEndian.Uint16(body[2*size+2:]))
	for rest := body[2*size+4:]; len(rest) >= 3; {
		n := 3 + int(binary.BigEndian.Uint16(rest[1:]))
		out += fmt.Sprintf(" %x=%s", rest[0], rest[3:n])
		rest = rest[n:]
	}
	return out, nil
}

// TestApplicationTunnel has a waypoint that leaves its tunnels to the node proxy, and is told who calls whom.
func TestApplicationTunnel(t *testing.T) {
	w := newWorld(t)
	front := mesh.ServiceKey{Namespace: "demo", Hostname: "waypoint.demo.svc.cluster.local"}
	fronted := mesh.ServiceKey{Namespace: "demo", Hostname: "fronted.demo.svc.cluster.local"}
	east := func(addr string) []mesh.NetworkAddress {
		return []mesh.NetworkAddress{{Network: "east", Addr: netip.MustParseAddr(addr)}, {Network: "east", Addr: netip.MustParseAddr(twin(addr))}}
	}
	hbone := []mesh.Port{{Service: 15008, Target: 15008}}
	w.east.view.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{
		front: {Namespace: "demo", Name: "waypoint", Hostname: front.Hostname, Addresses: east("10.96.0.20"), Ports: hbone},
		fronted: {Namespace: "demo", Name: "fronted", Hostname: fronted.Hostname, Addresses: east("10.96.0.21"), Ports: []mesh.Port{{Service: 80, Target: 8080}},
			Waypoint: &mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: "east", Addr: netip.MustParseAddr("10.96.0.20")}, Port: 15008}},
	}})
	waypoint := w.east.pod("waypoint", "10.77.0.6", &mesh.Workload{
		ServiceAccount: "waypoint", Services: map[mesh.ServiceKey][]mesh.Port{front: hbone}, AppTunnel: &mesh.AppTunnel{Port: 15088, Proxy: true},
	})
	waypoint.serveTold(":15088") // it should listen on loopback only, and does not
	const who = " d0=spiffe://cluster.local/ns/demo/sa/client"
	for _, tc := range []struct{ to, want string }{
		{"10.96.0.21:80", "from 127.0.0.1 10.77.0.2>10.96.0.21:80" + who},
		{"[fd77::21]:80", "from ::1 fd77::2>fd77::21:80" + who},
		{"10.77.0.6:9999", "from 127.0.0.1 10.77.0.2>10.77.0.6:9999" + who},
		{"[fd77::6]:9999", "from ::1 fd77::2>fd77::6:9999" + who},
	} {
		if got, err := w.client.call(tc.to, "hello"); err != nil || got != tc.want+": hello" {
			t.Errorf("%s: got %q, %v; want %q", tc.to, got, err, tc.want)
		}
	}
	w.east.log.find(t, `"direction":"inbound"`, `"workload":"demo/waypoint"`, `"destination":"10.77.0.6:15088"`, `"service":"10.96.0.21:80"`, `"status":200`)

	// Who could reach that port past the tunnel could claim any identity.
	forged := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x4d\x00\x02\x0a\x60\x00\x15\x00\x01\x00\x50"
	if got, err := w.plain.call("10.77.0.6:15088", forged+"hello"); err == nil {
		t.Errorf("a forged header was believed: %q", got)
	}
	w.east.log.find(t, `"direction":"inbound"`, `"workload":"demo/waypoint"`, `"tunnel":"plain"`, `"reason":"BAD_TARGET"`)
	if got, err := w.client.call("10.77.0.6:15088", forged+"hello"); err != nil || !strings.HasPrefix(got, "from 127.0.0.1 10.77.0.2>10.77.0.6:15088"+who) {
		t.Errorf("a header inside the tunnel: %q, %v", got, err)
	}
}
