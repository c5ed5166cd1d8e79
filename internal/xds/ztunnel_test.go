// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/ambient"
)

// asZtunnel are the options of a ztunnel on node-1.
func asZtunnel(addr string) ambient.Options {
	return ambient.Options{
		Address: addr, ServerName: "localhost", Roots: testRoots(), Token: "good", ClusterID: "east",
		IP: "10.0.0.1", Pod: "ztunnel-x", Namespace: "isthmus-system", Node: "node-1",
	}
}

// follow runs one session until the test ends or end is called, which gives the reason for which it ended.
func follow(t *testing.T, z *ambient.Ztunnel) (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- z.Run(ctx) }()
	end = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = end() })
	return end
}

// agrees says whether a ztunnel holds a snapshot: the same names, and of workloads the same addresses, services and capacity.
func agrees(z *ambient.Ztunnel, s mesh.Snapshot) error {
	workloads, services, policies := z.Workloads(), z.Services(), z.Policies()
	if len(workloads) != len(s.Workloads) || len(services) != len(s.Services) || len(policies) != len(s.Policies) {
		return fmt.Errorf("it holds %d workloads, %d services, %d policies", len(workloads), len(services), len(policies))
	}
	for uid, want := range s.Workloads {
		got, ok := workloads[uid]
		if !ok || got.Capacity != want.Capacity || !slices.Equal(got.Addresses, want.Addresses) || len(got.Services) != len(want.Services) {
			return fmt.Errorf("workload %s is %+v", uid, got)
		}
		for key, ports := range want.Services {
			if len(got.Services[key.String()]) != len(ports) {
				return fmt.Errorf("workload %s has ports %v of %s", uid, got.Services[key.String()], key)
			}
		}
	}
	for key, want := range s.Services {
		if got, ok := services[key.String()]; !ok || len(got.SANs) != len(want.SANs) || len(got.VIPs) != len(want.Addresses)+len(want.Ranges) {
			return fmt.Errorf("service %s is %+v", key, got)
		}
	}
	for key, want := range s.Policies {
		if got, ok := policies[key]; !ok || got.Deny != (want.Action == mesh.Deny) || got.Rules != len(want.Rules) {
			return fmt.Errorf("policy %s is %+v", key, got)
		}
	}
	return nil
}

// settled waits until a ztunnel holds a snapshot.
func settled(t *testing.T, z *ambient.Ztunnel, s mesh.Snapshot) {
	t.Helper()
	var err error
	defer func() {
		if err != nil {
			t.Log(err)
		}
	}()
	eventually(t, "the ztunnel holds the server's state", func() bool { err = agrees(z, s); return err == nil })
}

// carried joins what responses of a type carried: "+name" for a resource, "-name" for a removal.
func carried(heard []ambient.Response, kind string) string {
	var out []string
	for _, r := range heard {
		if r.Type != kind {
			continue
		}
		for _, name := range r.Names {
			out = append(out, "+"+name)
		}
		for _, name := range r.Removed {
			out = append(out, "-"+name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestZtunnelStartsOnAnEmptyMesh(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	z := ambient.New(asZtunnel(server.addr))
	follow(t, z)
	eventually(t, "the ztunnel is ready", z.Ready)
	if err := agrees(z, mesh.NewSnapshot()); err != nil {
		t.Error(err)
	}
}

// Every field of the samples arrives, in numbers that are written down twice.
func TestZtunnelReadsEveryKind(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	server.Update(everything(world()))
	z := ambient.New(asZtunnel(server.addr))
	follow(t, z)
	settled(t, z, world())
	eventually(t, "the ztunnel is ready", z.Ready)
	w, want := z.Workloads()[samplePod().UID], samplePod()
	if w.Name != want.Name || w.Namespace != want.Namespace || w.Network != want.Network || w.ServiceAccount != want.ServiceAccount ||
		w.Node != want.Node || w.Cluster != want.Cluster || w.TrustDomain != want.TrustDomain || w.HBONE != (want.Tunnel == mesh.TunnelHBONE) {
		t.Errorf("workload is %+v, want %+v", w, want)
	}
	for _, r := range z.Heard() {
		if len(r.Refused) > 0 {
			t.Errorf("it refuses %v", r.Refused)
		}
	}
}

// The world changes while the ztunnel follows, and while it does not; what travels after a pause is the difference.
func TestZtunnelUpdatesAndReconnects(t *testing.T) {
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 7))
		server := start(t, "", ready(t, ServerOptions{}))
		z := ambient.New(asZtunnel(server.addr))
		truth := mesh.NewSnapshot()
		change := func() {
			d := randomDelta(rng)
			truth.Apply(d)
			server.Update(d)
		}
		for range 5 {
			end := follow(t, z)
			for range 20 {
				change()
			}
			settled(t, z, truth)
			if err := end(); !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
				t.Fatalf("session ended with %v", err)
			}
			for range rng.IntN(3) {
				change()
			}
		}
	}
}

func TestZtunnelResumes(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	policy := mesh.Delta{Policies: map[string]*mesh.Policy{"n/p": {Namespace: "n", Name: "p"}}}
	truth := mesh.NewSnapshot()
	tell := func(s *running, d mesh.Delta) { truth.Apply(d); s.Update(d) }
	tell(server, workloads(pod("same", "10.0.0.1", ""), pod("changed", "10.0.0.2", ""), pod("gone", "10.0.0.3", "")))
	tell(server, policy)
	z := ambient.New(asZtunnel(server.addr))
	end := follow(t, z)
	settled(t, z, truth)
	eventually(t, "the ztunnel is ready", z.Ready)
	_ = end()
	z.Heard()

	// Another replica, which never heard of "gone".
	server.stop()
	other := start(t, server.addr, ready(t, ServerOptions{}))
	delete(truth.Workloads, "gone")
	delete(truth.Workloads, "changed")
	tell(other, workloads(pod("same", "10.0.0.1", ""), pod("changed", "10.0.0.9", ""), pod("new", "10.0.0.4", "")))
	other.Update(policy)
	follow(t, z)
	settled(t, z, truth)
	heard := z.Heard()
	if got := carried(heard, "Address"); got != "+changed +new -gone" {
		t.Errorf("what travelled is %q", got)
	}
	eventually(t, "policies are told again, as they have no version", func() bool {
		heard = append(heard, z.Heard()...)
		return carried(heard, "Authorization") == "+n/p"
	})
}

func TestZtunnelOnDemand(t *testing.T) {
	authenticate := authenticateAs(Caller{Namespace: "isthmus-system", ServiceAccount: "ztunnel"})
	server := start(t, "", ready(t, ServerOptions{Authenticate: authenticate}))
	web := &mesh.Service{Namespace: "n", Hostname: "web", Addresses: []mesh.NetworkAddress{{Network: "net", Addr: mustAddr("10.96.0.1")}}}
	d := workloads(pod("here", "10.0.0.1", "node-1"), pod("web-0", "10.0.0.2", "node-2", "web"), pod("lone", "10.0.0.3", "node-2"),
		pod("stranger", "10.0.0.4", "node-2"))
	d.Services = map[mesh.ServiceKey]*mesh.Service{web.Key(): web}
	server.Update(d)
	o := asZtunnel(server.addr)
	o.OnDemand = true
	z := ambient.New(o)
	end := follow(t, z)
	var heard []ambient.Response
	hears := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { heard = append(heard, z.Heard()...); return carried(heard, "Address") == want })
		heard = nil
	}
	hears("+here")
	z.Ask("net/10.96.0.1")
	hears("+n/web +web-0")
	z.Ask("net/10.0.0.3")
	hears("+lone")
	z.Ask("/10.9.9.9")
	hears("-/10.9.9.9")
	if err := end(); !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}

	// What it holds changes while it is away: it must not keep what is no longer so.
	moved := pod("lone", "10.0.0.3", "node-2")
	moved.Capacity = 7
	away := workloads(moved, pod("web-0", "10.0.0.2", "node-2", "web"), pod("web-1", "10.0.0.5", "node-3", "web"))
	away.Workloads["here"] = nil
	server.Update(away)
	follow(t, z)
	hears("+lone +web-1 -here")
	if got := z.Workloads()["lone"].Capacity; got != 7 {
		t.Errorf("capacity is %d, want 7", got)
	}
	// And it goes on to hear of what it held, and of nothing else.
	server.Update(workloads(pod("web-2", "10.0.0.6", "node-3", "web"), pod("stranger", "10.0.0.4", "node-3")))
	hears("+web-2")
	server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"lone": nil}})
	hears("-lone")
}

// One resource that a ztunnel cannot take costs that resource, and nobody else's.
func TestZtunnelRefusesOneResource(t *testing.T) {
	told := make(chan Rejection, 10)
	s := ready(t, ServerOptions{Rejected: func(r Rejection) { told <- r }})
	server := start(t, "", s)
	server.Update(workloads(pod("good", "10.0.0.1", ""), pod("bad", "10.0.0.2", "")))
	o := asZtunnel(server.addr)
	o.Refuse = func(name string) error {
		if name == "bad" {
			return errors.New("a fault")
		}
		return nil
	}
	z, other := ambient.New(o), ambient.New(asZtunnel(server.addr))
	follow(t, z)
	follow(t, other)
	good := mesh.NewSnapshot()
	good.Apply(workloads(pod("good", "10.0.0.1", "")))
	settled(t, z, good)
	eventually(t, "the rejection is counted", func() bool { return counter(s.metrics.rejected.WithLabelValues("Address")) == 1 })
	if r := <-told; r.Type != "Address" || r.Reason != "bad: a fault" || r.Caller.Node != "node-1" || !slices.Equal(r.Resources, []RejectedResource{{"Workload", "bad"}}) {
		t.Errorf("the server is told of %+v", r)
	}
	later := workloads(pod("later", "10.0.0.3", ""))
	good.Apply(later)
	server.Update(later)
	settled(t, z, good)
	good.Apply(workloads(pod("bad", "10.0.0.2", "")))
	settled(t, other, good)
}
