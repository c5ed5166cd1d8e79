// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// BenchmarkRestore reads what a proxy kept that knew 100,000 workloads of 10,000 services, as the next one does after a crash.
func BenchmarkRestore(b *testing.B) {
	const workloads, perService = 100_000, 10
	known := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}}
	ports := []mesh.Port{{Service: 80, Target: 8080, App: mesh.AppHTTP11}, {Service: 9000, Target: 9000, App: mesh.AppGRPC}}
	for i := range workloads {
		n := i / perService
		account, namespace := fmt.Sprintf("service-%d", n), fmt.Sprintf("team-%d", n%50)
		key := mesh.ServiceKey{Namespace: namespace, Hostname: account + "." + namespace + ".svc.cluster.local"}
		w := &mesh.Workload{
			UID: fmt.Sprintf("east//Pod/%s/%s-5d8f7c9b6d-%05d", namespace, account, i), Name: fmt.Sprintf("%s-5d8f7c9b6d-%05d", account, i), Namespace: namespace,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, Network: "net", Cluster: "east", Tunnel: mesh.TunnelHBONE,
			TrustDomain: "cluster.local", ServiceAccount: account, Node: fmt.Sprintf("node-%d", i%1000), Capacity: 1, Services: map[mesh.ServiceKey][]mesh.Port{key: ports},
			Locality: mesh.Locality{Region: "eu", Zone: fmt.Sprintf("eu-%d", i%3)}, CanonicalName: account, CanonicalRevision: "v1.2.3", WorkloadName: account,
		}
		known.Workloads[w.UID] = w
		if i%perService == 0 {
			known.Services[key] = &mesh.Service{
				Namespace: namespace, Name: account, Hostname: key.Hostname, Ports: ports, SANs: []string{"spiffe://cluster.local/ns/" + namespace + "/sa/" + account}, Canonical: true,
				Addresses: []mesh.NetworkAddress{{Network: "net", Addr: netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)})}},
			}
		}
	}
	path, scope := filepath.Join(b.TempDir(), "discovery"), xds.SnapshotScope{Cluster: "east", Network: "net"}
	size, err := xds.SaveSnapshot(path, scope, xds.Contents{Workloads: maps.Values(known.Workloads), Services: maps.Values(known.Services)})
	if err != nil {
		b.Fatal(err)
	}
	clear(known.Workloads)
	clear(known.Services)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		view := directory.NewLive()
		client := nobody(func(d mesh.Delta) error { view.Apply(d); return nil })
		if got, err := client.Restore(path, scope, time.Hour); err != nil || got.Resources != workloads+workloads/perService {
			b.Fatalf("%+v, %v", got, err)
		}
	}
}
