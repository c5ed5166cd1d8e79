// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestFirstIsWrittenBeforeLastIsTold has one processor tell many of a change. When half of them were told, to most of those it must have been written: it is by then that the
// first can know.
func TestFirstIsWrittenBeforeLastIsTold(t *testing.T) {
	const clients = 40
	told, written := make(chan struct{}, clients), make(chan int, 1)
	var half atomic.Pointer[func()]
	var since atomic.Int64
	s := NewServer(ServerOptions{
		Authenticate: authenticateAs(Caller{Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy"}),
		Log: funcr.New(func(_, args string) {
			if look := half.Load(); look != nil && strings.Contains(args, `"told"`) {
				if since.Add(1) == clients/2 {
					(*look)()
				}
				told <- struct{}{}
			}
		}, funcr.Options{Verbosity: 1}),
	})
	pod := samplePod()
	s.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{pod.UID: pod}})
	s.SetReady()
	r := start(t, "", s)
	var scripts []*script
	for range clients {
		c := dialScript(t, r.addr, "good")
		c.say(wildcard(addressURL))
		c.ack(c.hear())
		scripts = append(scripts, c)
	}
	subs := subscribersOf(s)
	acknowledged := func() {
		for deadline := time.Now().Add(patience); slices.ContainsFunc(subs, func(sub *subscriber) bool { return !sub.acknowledged(addressURL) }); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("not all acknowledge")
			}
		}
	}
	acknowledged()

	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// On a machine that others keep busy turns come late, and the rest are then woken at once (maxLate): it counts if it is so once.
	const tries = 10
	for try := range tries {
		before := map[*subscriber]int64{}
		for _, sub := range subs {
			before[sub] = sub.written()
		}
		look := func() {
			n := 0
			for _, sub := range subs {
				if sub.written() > before[sub] {
					n++
				}
			}
			written <- n
		}
		since.Store(0)
		half.Store(&look)
		pod = samplePod()
		pod.Capacity = uint32(7 + try)
		s.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{pod.UID: pod}})
		for range clients {
			select {
			case <-told:
			case <-time.After(patience):
				t.Fatal("not all were told")
			}
		}
		n := <-written
		if n >= clients/4 {
			return
		}
		t.Logf("when %d were told, it was written to %d of them", clients/2, n)
		for _, c := range scripts {
			c.ack(c.hear())
		}
		acknowledged()
	}
	t.Errorf("in %d tries, it never was written to %d of %d that were told", tries, clients/4, clients/2)
}

// subscribersOf gives those that are served.
func subscribersOf(s *Server) (subs []*subscriber) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for sub := range s.subscribers {
		subs = append(subs, sub)
	}
	return subs
}
