// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// echoing makes pod n, in the mesh, that says who it is and who asks, and then echoes until the client's side ends.
func (s *scene) echoing(n int) *mesh.Workload {
	return s.podServing(n, func(peer mesh.Identity, _ string, stream *hbone.Stream) {
		defer stream.Close()
		fmt.Fprintf(stream, "pod %d for %s\n", n, peer)
		_, _ = io.Copy(stream, stream)
		_ = stream.CloseWrite()
	})
}

// Connections by a port for TCP reach pods of the mesh in tunnels, under the gateway's identity: those of its own network, and those behind the gateway of another one; and go on in the
// other network when there is none left here.
func TestTCPReachesTheMesh(t *testing.T) {
	s := newScene(t, nil)
	s.streaming(nil, toCart()...)
	near, far := s.echoing(1), s.echoing(2)
	s.add(near)
	converse := func() string {
		t.Helper()
		nc := s.dialPort(5432)
		defer nc.Close()
		if _, err := io.WriteString(nc, "hello"); err != nil {
			t.Fatal(err)
		}
		if err := nc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(nc)
		if err != nil {
			t.Fatalf("%q, %v\n%s", said, err, s.logs.text())
		}
		return string(said)
	}
	want := func(n int) string { return fmt.Sprintf("pod %d for %s\nhello", n, s.server.o.Identity) }
	if got := converse(); got != want(1) {
		t.Errorf("got %q", got)
	}
	door, behind := s.farCluster(far)
	s.add(door, behind)
	s.live.Apply(mesh.Delta{
		Workloads: map[string]*mesh.Workload{near.UID: nil},
		Services:  map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.SANs = []string{podID.String()} })},
	})
	if got := converse(); got != want(2) {
		t.Errorf("got %q", got)
	}
	s.until("all is logged", func() bool {
		n := 0
		for _, line := range s.logs.access() {
			if line["tunnel"] == "tcp" && line["reason"] == "-" {
				n++
			}
		}
		return n == 2
	})
}

// TestTLSReachesTheMesh: what a client begins with arrives, too.
func TestTLSReachesTheMesh(t *testing.T) {
	s := newScene(t, nil)
	s.passing(cartRoute("api.example.com"))
	hello := make(chan string, 1)
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) {
		defer stream.Close()
		name, _, err := readClientHello(stream)
		hello <- fmt.Sprint(name, err)
	}))
	if _, _, err := s.dialTLS("api.example.com"); err == nil {
		t.Error("a pod that says nothing has answered")
	}
	if got := <-hello; got != "api.example.com<nil>" {
		t.Errorf("got %q", got)
	}
}

// Clients that read nothing do not hold up others, whose connections go to the same pod in the same tunnels.
func TestClientsThatReadNothing(t *testing.T) {
	s := newScene(t, nil)
	s.streaming(nil, toCart()...)
	const much = 32 << 20 // more than what waits on the way: a window of 4 MiB, and what the kernel holds
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) {
		defer stream.Close()
		_, _ = io.CopyN(stream, endless{}, 2*much)
		_ = stream.CloseWrite()
	}))
	for range 12 {
		s.dialPort(5432) // and nothing is read
	}
	s.until("they are held up", func() bool { return s.server.streamQuota.used() == 12 })
	reads := s.dialPort(5432)
	_ = reads.SetDeadline(time.Now().Add(6 * patience)) // it is much, on a machine that may be busy
	if _, err := io.CopyN(io.Discard, reads, much); err != nil {
		t.Errorf("a client that reads: %v\n%s", err, s.logs.text())
	}
}

// endless gives zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
