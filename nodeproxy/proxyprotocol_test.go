// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestProxyHeader compares headers with bytes written down by the specification's §2.2.
func TestProxyHeader(t *testing.T) {
	const signature = "0d0a0d0a 00 0d0a 51554954 0a"
	text := func(s string) string { return hex.EncodeToString([]byte(s)) }
	peer := mesh.Identity{TrustDomain: "t", Namespace: "n", ServiceAccount: "s"} // spiffe://t/ns/n/sa/s: 20 bytes
	for _, tc := range []struct {
		name                string
		source, destination string
		peer                mesh.Identity
		service             *mesh.Service
		want                string
	}{
		{"IPv4, nothing known", "10.0.0.1:40000", "10.96.0.1:80", mesh.Identity{}, nil,
			"21 11 000c 0a000001 0a600001 9c40 0050"},
		{"IPv4 in IPv6 clothes", "[::ffff:10.0.0.1]:40000", "10.96.0.1:80", mesh.Identity{}, nil,
			"21 11 000c 0a000001 0a600001 9c40 0050"},
		{"identity and service", "10.0.0.1:1", "10.96.0.1:443", peer, &mesh.Service{Hostname: "c.d"},
			"21 11 0029 0a000001 0a600001 0001 01bb d0 0014" + text("spiffe://t/ns/n/sa/s") + "d1 0003" + text("c.d")},
		{"IPv6", "[fd00::1]:1", "[fd00::2]:2", peer, nil,
			"21 21 003b fd000000000000000000000000000001 fd000000000000000000000000000002 0001 0002 d0 0014" + text("spiffe://t/ns/n/sa/s")},
		{"two families", "10.0.0.1:1", "[fd00::2]:2", mesh.Identity{}, nil,
			"21 21 0024 00000000000000000000ffff0a000001 fd000000000000000000000000000002 0001 0002"},
	} {
		got := hex.EncodeToString(proxyHeader(netip.MustParseAddrPort(tc.source), netip.MustParseAddrPort(tc.destination), tc.peer, tc.service))
		if want := strings.ReplaceAll(signature+tc.want, " ", ""); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, got, want)
		}
	}
}
