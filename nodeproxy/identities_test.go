// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// noIssuer is one that issues nothing to pods that are not here.
type noIssuer struct{}

func (noIssuer) Issue(context.Context, mesh.Identity, []byte) ([]string, error) {
	return nil, errors.New("no such pod on the node")
}

// A pod that discovery has forgotten may still dial. What it asks for then is given up with it, and not asked for ever after.
func TestIdentityIsGivenUpWithItsLastPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		view := directory.NewLive()
		w := &mesh.Workload{UID: "east//Pod/shop/cart", Name: "cart", Namespace: "shop", Cluster: "east", TrustDomain: "cluster.local", ServiceAccount: "cart", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7")}}
		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}})
		certificates := mtls.NewSource(noIssuer{}, mtls.SourceOptions{})
		defer certificates.Close()
		x := &Proxy{o: Options{View: view, Cluster: "east", Certificates: certificates}, connections: newConnections(), moved: make(chan struct{}, 1)}
		x.pods = newPods(x)
		p := &pod{proxy: x, info: zds.Workload{UID: "first", Name: "cart", Namespace: "shop", ServiceAccount: "cart"}, tunnelsIn: newTunnelSet(1)}
		x.pods.departing[p] = &departing{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go x.watch(ctx)
		synctest.Wait()
		if n := len(certificates.States()); n != 1 {
			t.Fatalf("%d identities are held, want the pod's", n)
		}

		view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: nil}})
		synctest.Wait()
		certificates.Prefetch(w.Identity()) // as any handshake of the pod does
		x.pods.mu.Lock()
		delete(x.pods.departing, p)
		x.pods.mu.Unlock()
		x.podsChanged()
		synctest.Wait()
		if held := certificates.States(); len(held) != 0 {
			t.Errorf("held with the pod gone: %v", held)
		}
	})
}
