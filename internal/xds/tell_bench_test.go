// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// BenchmarkTell changes one workload and waits until each of 100 clients, with a TLS connection of its own, has applied that. What counts is the processor time of both
// sides for one client: where there are more clients than processors, a client hears of a change after those before it were told.
func BenchmarkTell(b *testing.B) {
	const clients = 100
	s := NewServer(ServerOptions{Log: logr.Discard(), Authenticate: authenticateAs(Caller{Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy"})})
	changed := func(i int) mesh.Delta {
		w := samplePod()
		w.Capacity = uint32(i + 1)
		return mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}}
	}
	s.Update(changed(0))
	s.SetReady()
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running, applied sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = Serve(ctx, l, serverTLS(), s) }) // a server that failed shows as clients that hear nothing
	applied.Add(clients)
	for range clients {
		c := NewClient(ClientOptions{
			Log: logr.Discard(), Target: l.Addr().String(), ServerName: "localhost", RootCAs: testRoots,
			Token: func() (string, error) { return "good", nil }, Types: []Type{Addresses(), Policies()},
			Apply: func(mesh.Delta) error { applied.Done(); return nil },
		})
		running.Go(func() { _ = c.Run(ctx) }) // ends with its context
	}
	applied.Wait()
	before := processorTime(b)
	for i := 0; b.Loop(); i++ {
		applied.Add(clients)
		s.Update(changed(i + 1))
		applied.Wait()
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(clients*b.N), "cpu-µs/client")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
