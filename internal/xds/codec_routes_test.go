// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// routedGateway has a listener with routes of these names, in this order.
func routedGateway(names ...string) *mesh.Gateway {
	l := mesh.Listener{Name: "http", Port: 80, Bind: 20080, Protocol: mesh.ListenerHTTP}
	for _, name := range names {
		l.Routes = append(l.Routes, &mesh.HTTPRoute{
			Namespace: "shop", Name: name, Hostnames: []string{name + ".example.com"},
			Rules: []mesh.HTTPRule{{
				Matches:  []mesh.HTTPMatch{{Path: "/"}},
				Backends: []mesh.HTTPBackend{{Service: mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}, Port: 80, Weight: 1}},
			}},
		})
	}
	return &mesh.Gateway{Namespace: "shop", Name: "edge", Network: "east", ServiceAccount: "edge", Listeners: []mesh.Listener{l}}
}

// A change of one route is one route to encode and to decode, and the bytes are those of who encodes everything.
func TestOtherRoutesAreKept(t *testing.T) {
	was := routedGateway("a", "b", "c")
	body, encoded, err := encodeGateway(was, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, decoded, err := decodeGateway(body, nil)
	if err != nil {
		t.Fatal(err)
	}

	now := routedGateway("x", "b2", "c2", "new")
	now.Listeners[0].Routes = []*mesh.HTTPRoute{now.Listeners[0].Routes[0], was.Listeners[0].Routes[1], was.Listeners[0].Routes[2], now.Listeners[0].Routes[3]}
	body, again, err := encodeGateway(now, encoded)
	if err != nil {
		t.Fatal(err)
	}
	if afresh, _, err := encodeGateway(now, nil); err != nil || !bytes.Equal(body, afresh) {
		t.Errorf("with what is remembered it is encoded otherwise (%v)", err)
	}
	for i, kept := range []bool{false, true, true, false} {
		r := now.Listeners[0].Routes[i]
		if field, ok := encoded[r]; ok != kept || kept && &field[0] != &again[r][0] {
			t.Errorf("%s: known before: %v, and the same bytes should be told if it was", r.Name, ok)
		}
	}
	if len(again) != 4 {
		t.Errorf("%d routes are remembered, of 4", len(again))
	}

	second, decoded, err := decodeGateway(body, decoded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(now, second); diff != "" {
		t.Error(diff)
	}
	if len(decoded) != 4 {
		t.Errorf("%d routes are remembered, of 4", len(decoded))
	}
	for i, from := range []int{-1, 1, 2, -1} {
		kept := false
		for j, r := range first.Listeners[0].Routes {
			kept = kept || r == second.Listeners[0].Routes[i] && j == from
		}
		if kept != (from >= 0) {
			t.Errorf("route %d is one of before: %v", i, kept)
		}
	}
}

func BenchmarkOneRouteAmongMany(b *testing.B) {
	var names []string
	for i := range 5000 {
		names = append(names, fmt.Sprintf("route-%04d", i))
	}
	was := routedGateway(names...)
	body, encoded, err := encodeGateway(was, nil)
	if err != nil {
		b.Fatal(err)
	}
	_, decoded, err := decodeGateway(body, nil)
	if err != nil {
		b.Fatal(err)
	}
	now := *was
	now.Listeners = []mesh.Listener{was.Listeners[0]}
	now.Listeners[0].Routes = append(routedGateway("new").Listeners[0].Routes, was.Listeners[0].Routes...)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if body, _, err = encodeGateway(&now, encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := decodeGateway(body, decoded); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode all", func(b *testing.B) {
		for b.Loop() {
			if body, _, err = encodeGateway(&now, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode all", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := decodeGateway(body, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
