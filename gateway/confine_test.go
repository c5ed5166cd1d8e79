// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
)

// A proxy that understands it is told first what the peer was let in for, as the gateway has understood it; others get the peer's bytes and nothing else.
func TestPeersAreConfined(t *testing.T) {
	for _, asked := range []string{authority, "CART.shop.svc.cluster.local:80", "10.96.0.7:80"} {
		for _, understands := range []bool{true, false} {
			s := newScene(t, nil)
			s.configure(nil)
			got := make(chan []byte, 1)
			w := s.tcp(1, func(nc *net.TCPConn) {
				all, _ := io.ReadAll(nc) // ends with the client's half-close
				got <- all
				_, _ = nc.Write([]byte("back"))
			})
			w.Confines = understands
			s.add(w)
			stream, _, err := s.outer(15008, clientID).Open(t.Context(), asked, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if _, err := stream.Write([]byte(marker)); err != nil {
				t.Fatal(err)
			}
			if err := stream.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var words []byte
			if understands {
				if words, err = stranger.AppendConfinement(nil, "shop/"+authority); err != nil {
					t.Fatal(err)
				}
			}
			if sent := <-got; !bytes.Equal(sent, append(words, marker...)) {
				t.Errorf("%s, understood: %v: the pod got %q", asked, understands, sent)
			}
			if back, err := io.ReadAll(stream); err != nil || string(back) != "back" {
				t.Errorf("%s: the client got %q, %v", asked, back, err)
			}
			s.stop()
		}
	}
}

// A client that opens a stream and leaves it without a word says nothing of the endpoint, which hangs up on it.
func TestWhoLeavesAConfinedConnectionEjectsNobody(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	w := s.tcp(1, func(nc *net.TCPConn) {
		_, _ = io.ReadFull(nc, make([]byte, len("\x00isthmus")+2+len("shop/"+authority))) // and then its patience is over
	})
	w.Confines = true
	s.add(w)
	outer := s.outer(15008, clientID)
	for range 3 {
		stream, _, err := outer.Open(t.Context(), authority, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(stream); err != nil {
			t.Fatal(err)
		}
		stream.Close()
	}
	s.until("the streams are logged", func() bool { return len(s.logs.access()) == 3 })
	if _, ejected, _ := s.server.balancer.counts(); ejected > 0 {
		t.Errorf("%d endpoints are left out", ejected)
	}
}

// Who is confined, and to what: pods whose node proxy understands it and whose tunnels end there. What stands before a service is told of the service.
func TestWhoIsConfined(t *testing.T) {
	waypoint := mesh.ServiceKey{Namespace: "shop", Hostname: "secret.shop.svc.cluster.local"}
	confines := podWorkload(1, func(w *mesh.Workload) { w.Confines = true })
	before := podWorkload(2, func(w *mesh.Workload) {
		w.Confines, w.Services = true, map[mesh.ServiceKey][]mesh.Port{waypoint: nil}
	})
	v, c := exporting(confines, podWorkload(3, nil), before)
	fronted := func(port uint16) *mesh.Service {
		s := *v.Service(cartKey)
		s.Waypoint = &mesh.GatewayAddress{Hostname: waypoint, Port: port}
		return &s
	}
	for _, tc := range []struct {
		name string
		t    target
		want []string
	}{
		{"pods", target{service: v.Service(cartKey), port: 80}, []string{"10.0.0.1:15008 shop/cart.shop.svc.cluster.local:80", "10.0.0.3:15008 "}},
		{"plain connections", target{service: v.Service(cartKey), port: 80, plain: true}, []string{"10.0.0.1:8080 ", "10.0.0.3:8080 "}},
		{"a waypoint behind a node proxy", target{service: fronted(15008), port: 80}, []string{"10.0.0.2:15008 shop/cart.shop.svc.cluster.local:80"}},
		{"a waypoint at a port of its own", target{service: fronted(15018), port: 80}, []string{"10.0.0.2:15018 "}},
	} {
		var got []string
		for _, e := range c.candidates(v, tc.t, nil) {
			got = append(got, e.dial.String()+" "+e.confined)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
