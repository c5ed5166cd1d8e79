// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestLateHello: what a client asks for counts for the listeners that there are when it asks, not for those that there were when it connected.
func TestLateHello(t *testing.T) {
	s := newScene(t, nil)
	listening := func(protocol mesh.ListenerProtocol, name string) {
		s.configure(func(g *mesh.Gateway) {
			l := mesh.Listener{Name: "l", Port: 6443, Bind: 6443, Protocol: protocol}
			if protocol == mesh.ListenerTCP {
				l.Stream = &mesh.StreamRoute{Namespace: "shop", Name: "cart", Backends: cartRoute(name).Backends}
			} else {
				l.Hostname, l.TLSRoutes = name, []*mesh.TLSRoute{cartRoute(name)}
			}
			g.Listeners = append(g.Listeners, l)
		})
		s.until("it counts", func() bool {
			conn, _, err := s.dialTLS(name)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	s.add(s.tlsPod(1))
	for _, now := range []struct {
		protocol mesh.ListenerProtocol
		name     string
		served   bool
	}{{mesh.ListenerTLS, "after.example.com", true}, {mesh.ListenerTLS, "before.example.com", false}, {mesh.ListenerTCP, "after.example.com", true}} {
		listening(mesh.ListenerTLS, "before.example.com")
		nc, err := net.Dial("tcp", s.address(6443))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		s.until("it is waited for", func() bool { return s.server.strangers.Silent() == 1 })
		asked := now.name
		if !now.served {
			now.name = "other.example.com"
		}
		listening(now.protocol, now.name)
		client := tls.Client(nc, &tls.Config{ServerName: asked, InsecureSkipVerify: true})
		if err := client.Handshake(); (err == nil) != now.served {
			t.Errorf("%s, while %v is for %s: %v", asked, now.protocol, now.name, err)
		}
		nc.Close()
		s.nothingLeft()
	}
}
