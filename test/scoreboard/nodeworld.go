// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	worldWorkloads  = 100_000
	worldPerService = 10
	worldBatch      = 1000      // workloads in one delta, as discovery tells them
	worldMemory     = 250 << 20 // of the issue, in bytes
	worldLookups    = 100_000
)

// nodeWorld measures what a directory of 100,000 workloads of 10,000 services costs the process that holds it once loading is over, and what lookups in it allocate: by
// address, by VIP, and the choice of an endpoint. Every string of a workload is its own, as decoding leaves them. The control is the same
// process with an empty directory.
func nodeWorld(ctx context.Context, out io.Writer) (result, error) {
	debug.FreeOSMemory()
	empty, err := residentNow()
	if err != nil {
		return result{}, err
	}
	live := directory.NewLive()
	for from := 0; from < worldWorkloads; from += worldBatch {
		if ctx.Err() != nil {
			return result{}, ctx.Err()
		}
		live.Apply(worldDelta(from))
	}
	loaded, err := residentNow()
	if err != nil {
		return result{}, err
	}
	debug.FreeOSMemory()
	full, err := residentNow()
	if err != nil {
		return result{}, err
	}
	fmt.Fprintf(out, "%.0f MiB are resident right after loading, before the garbage of it was given back\n", loaded/(1<<20))
	v := live.Load()
	found := 0
	look := func() {
		for n := range worldLookups {
			i := n * 7919 % worldWorkloads
			service := v.ServiceAt("c0", worldVIP(i/worldPerService), "team-1")
			if v.WorkloadAt("c0", worldAddr(i)) == nil || service == nil {
				continue
			}
			if _, ok := directory.Pick(v, directory.Want{Network: "c0", Service: service, Port: 80, Random: func(uint64) uint64 { return 0 }}); ok {
				found++
			}
		}
	}
	allocated, err := allocations(func() error { look(); return nil })
	if err != nil {
		return result{}, err
	}
	if found != 2*worldLookups {
		return result{}, fmt.Errorf("%d of %d lookups found something", found, 2*worldLookups)
	}
	runtime.KeepAlive(live)
	known, none := empty/(1<<20), 0.0
	return absolute(out,
		figure{What: "resident memory, 100,000 workloads", Unit: "MiB", Ours: full / (1 << 20), Control: &known, Against: "empty", Goal: worldMemory / (1 << 20)},
		figure{What: "allocations", Unit: "per lookup", Ours: allocated / worldLookups, Control: &none, Against: "none", Goal: allocGoal, Rule: "taken for none"},
	), nil
}

// worldDelta tells of the workloads from a number on, and of their services.
func worldDelta(from int) mesh.Delta {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}}
	for i := from; i < from+worldBatch; i++ {
		n := i / worldPerService
		text := func(format string, args ...any) string { return strings.Clone(fmt.Sprintf(format, args...)) }
		key := func() mesh.ServiceKey {
			return mesh.ServiceKey{Namespace: text("team-%d", n%50), Hostname: text("service-%d.team-%d.svc.cluster.local", n, n%50)}
		}
		w := &mesh.Workload{
			UID: text("c0//Pod/team-%d/service-%d-5d8f7c9b6d-%05d", n%50, n, i), Name: text("service-%d-5d8f7c9b6d-%05d", n, i), Namespace: text("team-%d", n%50),
			Addresses: []netip.Addr{worldAddr(i)}, Network: text("c0"), Cluster: text("c0"), Tunnel: mesh.TunnelHBONE, TrustDomain: text("cluster.local"),
			ServiceAccount: text("service-%d", n), Node: text("node-%d", i%1000), Capacity: 1,
			Services: map[mesh.ServiceKey][]mesh.Port{key(): {{Service: 80, Target: 8080, App: mesh.AppHTTP11}, {Service: 9000, Target: 9000, App: mesh.AppGRPC}}},
			Locality: mesh.Locality{Region: text("eu"), Zone: text("eu-%d", i%3)}, CanonicalName: text("service-%d", n), CanonicalRevision: text("v1.2.3"),
			WorkloadName: text("service-%d", n),
		}
		d.Workloads[w.UID] = w
		if i%worldPerService == 0 {
			d.Services[key()] = &mesh.Service{
				Namespace: text("team-%d", n%50), Name: text("service-%d", n), Hostname: key().Hostname, Addresses: []mesh.NetworkAddress{{Network: text("c0"), Addr: worldVIP(n)}},
				Ports: []mesh.Port{{Service: 80, Target: 8080, App: mesh.AppHTTP11}, {Service: 9000, Target: 9000, App: mesh.AppGRPC}},
				SANs:  []string{text("spiffe://cluster.local/ns/team-%d/sa/service-%d", n%50, n)}, Canonical: true,
			}
		}
	}
	return d
}

func worldAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func worldVIP(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)})
}

// residentNow is the memory that this process has in RAM, in bytes.
func residentNow() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			return kib * 1024, nil
		}
	}
	return 0, errors.New("/proc/self/status has no VmRSS")
}
