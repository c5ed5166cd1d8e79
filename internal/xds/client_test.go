// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// world is a snapshot with one of everything that a node proxy asks for.
func world() mesh.Snapshot {
	s := mesh.NewSnapshot()
	pod, split, service, policy := samplePod(), sampleSplitHorizon(), sampleService(), samplePolicy()
	s.Workloads[pod.UID], s.Workloads[split.UID] = pod, split
	s.Services[service.Key()] = service
	s.Policies[policy.Key()] = policy
	return s
}

// everything is the delta from nothing.
func everything(s mesh.Snapshot) mesh.Delta { return mesh.Diff(mesh.NewSnapshot(), s) }

func awaitSynced(t *testing.T, c *Client) {
	t.Helper()
	select {
	case <-c.Synced():
	case <-time.After(patience):
		t.Fatal("client is not synced")
	}
}

func TestClientFollowsServer(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	want := world()
	server.Update(everything(want))
	m := newMirror()
	c := NewClient(clientOptions(t, server.addr, m))
	run(t, c)
	awaitSynced(t, c)
	m.await(t, want)

	changed := *samplePod()
	changed.Capacity = 9
	d := mesh.Delta{
		Workloads: map[string]*mesh.Workload{changed.UID: &changed, sampleSplitHorizon().UID: nil},
		Policies:  map[string]*mesh.Policy{samplePolicy().Key(): nil},
	}
	want.Apply(d)
	server.Update(d)
	m.await(t, want)
}

func TestClientIsSyncedByAnEmptyServer(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	m := newMirror()
	c := NewClient(clientOptions(t, server.addr, m))
	run(t, c)
	awaitSynced(t, c)
	if n := m.count(); n != 0 {
		t.Errorf("Apply was called %d times with nothing", n)
	}
}

// A restarted server knows nobody: the client tells it what it holds, and gets only the difference, removals included.
func TestClientResumes(t *testing.T) {
	first := start(t, "", ready(t, ServerOptions{}))
	want := world()
	first.Update(everything(want))
	m := newMirror()
	c := NewClient(clientOptions(t, first.addr, m))
	run(t, c)
	m.await(t, want)
	first.stop()

	before := m.count()
	added := &mesh.Workload{UID: "new", Name: "new", Namespace: "shop", TrustDomain: "cluster.local", ServiceAccount: "a", Cluster: "east", Capacity: 1}
	delete(want.Workloads, sampleSplitHorizon().UID)
	delete(want.Policies, samplePolicy().Key())
	want.Workloads[added.UID] = added
	next := ready(t, ServerOptions{})
	next.Update(everything(want))
	start(t, first.addr, next)
	m.await(t, want)

	m.mu.Lock()
	defer m.mu.Unlock()
	total := 0
	for _, d := range m.deltas[before:] {
		total += d.Len()
	}
	if total != 3 { // one new, one workload and one policy gone
		t.Errorf("after the restart %d changes came, want 3: %v", total, m.deltas[before:])
	}
}

// Nothing is forgotten while nobody answers.
func TestClientKeepsWhatItKnows(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	want := world()
	server.Update(everything(want))
	m := newMirror()
	c := NewClient(clientOptions(t, server.addr, m))
	run(t, c)
	m.await(t, want)
	server.stop()
	time.Sleep(quiet) // some attempts fail
	m.await(t, want)
}

// What Apply refused is told again on the next stream.
func TestClientTriesAgainWhatWasNotApplied(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	want := world()
	server.Update(everything(want))
	m := newMirror()
	failures := 2
	m.refuse = func(d mesh.Delta) error {
		if len(d.Workloads) > 0 && failures > 0 {
			failures--
			return errors.New("not now")
		}
		return nil
	}
	c := NewClient(clientOptions(t, server.addr, m))
	run(t, c)
	m.await(t, want)
	if failures != 0 {
		t.Errorf("%d failures are left", failures)
	}
}

func TestClientRejectsOneResourceAndKeepsTheRest(t *testing.T) {
	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	want := world()
	d := everything(want)
	bad := &mesh.Workload{UID: "bad", Namespace: string(make([]byte, maxName+1))}
	d.Workloads[bad.UID] = bad
	server.Update(d)
	m := newMirror()
	c := NewClient(clientOptions(t, server.addr, m))
	run(t, c)
	m.await(t, want)
	eventually(t, "the rejection is counted", func() bool {
		return counter(s.metrics.rejected.WithLabelValues("Address")) == 1
	})

	// The stream goes on, and the resource may become good.
	good := *bad
	good.Namespace, good.TrustDomain, good.ServiceAccount, good.Cluster = "n", "td", "sa", "c"
	want.Workloads[good.UID] = &good
	server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{good.UID: &good}})
	m.await(t, want)
	eventually(t, "both responses are counted, on one stream", func() bool { // after they were sent
		return counter(s.metrics.responses.WithLabelValues("Address")) == 2
	})
}

func TestClientFollowsOneGateway(t *testing.T) {
	gw := sampleGateway()
	s := ready(t, ServerOptions{Authenticate: authenticateAs(Caller{Namespace: gw.Namespace, ServiceAccount: gw.ServiceAccount})})
	server := start(t, "", s)
	other := *gw
	other.Name, other.ServiceAccount = "other", "other"
	m := newMirror()
	o := clientOptions(t, server.addr, m)
	o.Types = []Type{Addresses(), Gateway(gw.Key())}
	c := NewClient(o)
	run(t, c)
	awaitSynced(t, c) // also before its Gateway exists

	want := mesh.NewSnapshot()
	want.Gateways[gw.Key()] = gw
	server.Update(mesh.Delta{Gateways: map[mesh.GatewayKey]*mesh.Gateway{gw.Key(): gw, other.Key(): &other}})
	m.await(t, want)
	delete(want.Gateways, gw.Key())
	server.Update(mesh.Delta{Gateways: map[mesh.GatewayKey]*mesh.Gateway{gw.Key(): nil}})
	m.await(t, want)
}

func TestClientRefusesServers(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	for name, change := range map[string]func(*ClientOptions){
		"other name":  func(o *ClientOptions) { o.ServerName = "elsewhere" },
		"other roots": func(o *ClientOptions) { o.RootCAs = x509.NewCertPool },
		"no roots":    func(o *ClientOptions) { o.RootCAs = func() *x509.CertPool { return nil } },
		"no token":    func(o *ClientOptions) { o.Token = func() (string, error) { return "", errors.New("no file") } },
		"bad token":   func(o *ClientOptions) { o.Token = func() (string, error) { return "bad", nil } },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror()
			o := clientOptions(t, server.addr, m)
			change(&o)
			c := NewClient(o)
			good, err := c.follow(t.Context())
			if good || err == nil {
				t.Errorf("follow gave %v, %v", good, err)
			}
			t.Log(err)
		})
	}
}

// The token and the roots are read for each stream.
func TestClientReadsCredentialsAnew(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	m := newMirror()
	o := clientOptions(t, server.addr, m)
	asked := 0
	o.Token = func() (string, error) {
		if asked++; asked < 3 {
			return "stale", nil
		}
		return "good", nil
	}
	c := NewClient(o)
	run(t, c)
	awaitSynced(t, c)
}

// The whole world comes in one response, also when that is more than gRPC takes by default (4 MiB).
func TestManyResources(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	want := mesh.NewSnapshot()
	padding := strings.Repeat("x", maxLabelValue)
	for i := range 2000 {
		w := samplePod()
		w.CanonicalName, w.CanonicalRevision, w.WorkloadName = padding, padding, padding
		w.UID = fmt.Sprintf("west//Pod/shop/cart-%d", i)
		want.Workloads[w.UID] = w
	}
	server.Update(everything(want))
	m := newMirror()
	c := NewClient(clientOptions(t, server.addr, m))
	run(t, c)
	awaitSynced(t, c)
	m.await(t, want)
	if n := m.count(); n != 1 {
		t.Errorf("the world came in %d parts, want 1: a client is ready after the first", n)
	}
}
