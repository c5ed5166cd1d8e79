// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Connections to listeners for HTTP, whose clients prove nothing, leave half of the places to those who prove who they are.
func TestStrangersLeaveRoom(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections = 8 })
	s.configure(webGateway(nil))
	for range 8 {
		conn, err := net.Dial("tcp", s.address(20080))
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
