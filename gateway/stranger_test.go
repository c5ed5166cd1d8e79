// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Connections to listeners for HTTP, whose clients prove nothing, leave half of the places to those who prove who they are.
func TestStrangersLeaveRoom(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections = 8 })
	s.configure(webGateway(nil))
	for i := range 8 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i))}}
		conn, err := d.Dial("tcp", s.address(20080))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	s.until("half of them are refused", func() bool { return s.count("isthmus_gateway_limited_total") == 4 })
	if used := s.server.connections.used(); used != 4 {
		t.Errorf("strangers have %d of 8 places", used)
	}
	if !s.server.peers.take(mesh.Identity{TrustDomain: "t", Namespace: "n", ServiceAccount: "a"}) {
		t.Error("there is no room for a peer with an identity")
	}
}

// TestStrangersOfOneAddressLeaveRoom: nor do those of one address take all of what strangers have.
func TestStrangersOfOneAddressLeaveRoom(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections = 16 })
	s.passing(cartRoute("cart.example.com"))
	s.add(s.tlsPod(1))
	from := func(ip string) error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		nc, err := d.DialContext(t.Context(), "tcp", s.address(6443))
		if err != nil {
			return err
		}
		t.Cleanup(func() { nc.Close() })
		return tls.Client(nc, &tls.Config{ServerName: "cart.example.com", InsecureSkipVerify: true}).HandshakeContext(t.Context()) //nolint:gosec // whether it is answered is asked
	}
	for i := range 4 {
		if err := from("127.0.0.1"); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := from("127.0.0.1"); err == nil {
		t.Error("a fifth connection of one address has a place, of 8 for all strangers")
	}
	if err := from("127.0.0.9"); err != nil {
		t.Errorf("a client of another address: %v", err)
	}
}

func TestPlaceOfAddress(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8::1": "2001:db8::/64", "2001:db8::2:0:0:1": "2001:db8::/64", "fe80::1%lo": "fe80::/64",
	} {
		if got := placeOfAddress(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1))); got.String() != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
