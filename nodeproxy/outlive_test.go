// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// A pod that left the mesh and runs on has all of the time to drain; what a dead one left has a minute.
func TestDepartureBeginsWhenDiscoveryForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		view := directory.NewLive()
		w := &mesh.Workload{UID: "east//Pod/shop/cart", Name: "cart", Namespace: "shop", Cluster: "east", Network: "east", ServiceAccount: "cart", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7")}}
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}})
		p := &pod{proxy: &Proxy{o: Options{View: view, Cluster: "east", Node: "n1"}}, info: zds.Workload{UID: "first", Name: "cart", Namespace: "shop", ServiceAccount: "cart"}}
		p.proxy.pods = newPods(p.proxy)
		began := time.Now()
		ended := make(chan time.Duration, 2)
		outlive := func(ctx context.Context) { p.outlive(ctx, func() { ended <- time.Since(began) }) }
		go outlive(t.Context())
		time.Sleep(5 * time.Minute)
		changed := *w
		changed.Tunnel = mesh.TunnelNone
		changed.Capacity = 2
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: &changed}})
		time.Sleep(time.Minute)
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: nil}})
		if after := <-ended; after != 6*time.Minute+departure {
			t.Errorf("its connections were ended after %v", after)
		}

		// That its time to drain is over ends the wait, too, whatever is known.
		ctx, cancel := context.WithTimeout(t.Context(), departure/2)
		defer cancel()
		outlive(ctx)
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}})
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		outlive(ctx)
		if len(ended) > 0 {
			t.Error("it was ended by somebody else")
		}

		// Whom discovery knows is the next one of that name, at another node.
		here := *w
		here.Node = "n1"
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: &here}})
		began = time.Now()
		go outlive(t.Context())
		time.Sleep(5 * time.Minute)
		moved := here
		moved.Node, moved.Addresses = "n2", []netip.Addr{netip.MustParseAddr("10.1.0.7")}
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: &moved}})
		select {
		case after := <-ended:
			if after != 5*time.Minute+departure {
				t.Errorf("connections of one that has a successor at another node were ended after %v", after)
			}
		case <-time.After(departure + time.Second):
			t.Fatal("connections of one that has a successor at another node go on")
		}
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}})

		// Or it is served here.
		p.proxy.pods.serving["second"] = &pod{info: zds.Workload{UID: "second", Name: "cart", Namespace: "shop", ServiceAccount: "cart"}}
		began = time.Now()
		outlive(t.Context())
		if after := <-ended; after != departure {
			t.Errorf("connections of one that has a successor were ended after %v", after)
		}
	})
}
