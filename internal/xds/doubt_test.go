// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc/mem"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/ambient"
)

// ofWest doubts what may be of a cluster that was not heard of.
func ofWest(name string) bool { return strings.HasPrefix(name, "west/") }

func TestPartialAnswersSayThatTheyAre(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	server.SetDoubt(ofWest)
	server.Update(workloads(pod("east/a", "10.0.0.1", "")))
	c := dialScript(t, server.addr, "good")
	hear := func(partial bool, want string) {
		t.Helper()
		r := c.hear()
		wantResponse(t, r, want)
		says := map[bool]string{true: saysPartial, false: saysComplete}[partial]
		if r.GetSystemVersionInfo() != says {
			t.Errorf("response %q says %q, want %q", want, r.GetSystemVersionInfo(), says)
		}
		c.ack(r)
	}
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, InitialResourceVersions: map[string]string{
		"east/gone": "v", "west/back": "v", "west/gone": "v", "west/gone-too": "v",
	}})
	hear(true, "+east/a -east/gone")
	c.say(wildcard(authorizationURL))
	hear(false, "") // which no other cluster has a part in
	server.Update(workloads(pod("east/b", "10.0.0.2", "")))
	hear(true, "+east/b")
	server.Update(workloads(pod("west/back", "10.1.0.1", "")))
	hear(true, "+west/back")
	server.SetDoubt(func(name string) bool { return name == "west/gone-too" }) // part of it is known by now
	hear(true, "-west/gone")
	server.SetDoubt(nil)
	hear(false, "-west/gone-too")
	c.silence()
	server.Update(workloads(pod("east/c", "10.0.0.3", "")))
	hear(false, "+east/c")
}

// Who was told all there turned out to be hears that it was all; who comes then never hears of doubt.
func TestCompletionIsTold(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	server.SetDoubt(ofWest)
	z := ambient.New(asZtunnel(server.addr))
	follow(t, z)
	eventually(t, "the ztunnel is ready", z.Ready)
	m := newMirror()
	o := clientOptions(t, server.addr, m)
	client := NewClient(o)
	run(t, client)
	awaitSynced(t, client)
	if !client.Partial() {
		t.Error("our client does not know that it was told a part")
	}
	server.SetDoubt(nil)
	eventually(t, "our client knows that it was told all", func() bool { return !client.Partial() })
	last := func() (partial, heard bool) {
		for _, r := range z.Heard() {
			if r.Type == "Address" {
				partial, heard = r.Partial, true
			}
		}
		return partial, heard
	}
	eventually(t, "the ztunnel was told", func() bool { partial, heard := last(); return heard && !partial })
}

// On demand, too: a name that nobody knows yet is not said not to exist.
func TestDoubtOnDemand(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	server.SetDoubt(ofWest)
	c := dialScript(t, server.addr, "good")
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: []string{"*", "west/10.1.0.1", "east/10.0.0.1"}, ResourceNamesUnsubscribe: []string{"*"}})
	r := c.hear()
	wantResponse(t, r, "-east/10.0.0.1")
	c.ack(r)
	c.silence()
	server.SetDoubt(nil)
	wantResponse(t, c.hear(), "-west/10.1.0.1")
}

// Replicas restart and hear of one cluster before the other, in whatever order: no proxy ever loses what exists, and in the end each holds what is.
func TestRestartsLoseNothing(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			truth := mesh.NewSnapshot()
			m := newMirror()
			client := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses()}, Apply: m.apply})
			change := func(cluster string) mesh.Delta {
				uid := fmt.Sprintf("%s/%d", cluster, rng.IntN(5))
				w := samplePod()
				w.UID, w.Capacity = uid, rng.Uint32N(3)
				d := workloads(w)
				if rng.IntN(3) == 0 {
					d.Workloads[uid] = nil
				}
				truth.Apply(d)
				return d
			}
			for range 8 { // replicas, one after the other
				server := NewServer(ServerOptions{Log: logr.Discard()})
				knows := rng.IntN(3) > 0 // west, from the start
				start := mesh.NewSnapshot()
				for uid, w := range truth.Workloads {
					if knows || !ofWest(uid) {
						start.Workloads[uid] = w
					}
				}
				server.Update(everything(start))
				if !knows {
					server.SetDoubt(ofWest)
				}
				sub := &subscriber{server: server, wake: make(chan struct{}, 1), types: map[string]*subscription{}, log: logr.Discard()}
				if err := server.enlist(sub); err != nil {
					t.Fatal(err)
				}
				if _, err := sub.take(client.hello(Addresses())); err != nil {
					t.Fatal(err)
				}
				exchange := func() {
					r := sub.next(addressURL)
					if r == nil {
						return
					}
					got := received(t, r)
					for _, name := range got.GetRemovedResources() {
						if w := truth.Workloads[name]; w != nil {
							t.Fatalf("the proxy is told that %s is gone", name)
						}
					}
					if refusal, err := client.apply(heard(t, r)); err != nil || refusal != nil {
						t.Fatal(refusal, err)
					}
					if client.Partial() == knows {
						t.Fatalf("the proxy holds that it was told a part: %t, and the server knows all: %t", client.Partial(), knows)
					}
					if _, err := sub.take(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResponseNonce: got.GetNonce()}); err != nil {
						t.Fatal(err)
					}
				}
				for range 12 {
					switch rng.IntN(5) {
					case 0:
						server.Update(change("east"))
					case 1:
						if d := change("west"); knows {
							server.Update(d)
						}
					case 2:
						if !knows && rng.IntN(3) == 0 {
							rest := mesh.NewSnapshot()
							for uid, w := range truth.Workloads {
								if ofWest(uid) {
									rest.Workloads[uid] = w
								}
							}
							knows = true
							server.Update(everything(rest))
							server.SetDoubt(nil)
							exchange() // an older answer, which did not know it, cannot be in flight: exchanges are whole here
						}
					default:
						exchange()
					}
				}
				if knows {
					exchange()
					if !reflect.DeepEqual(m.snapshot.Workloads, truth.Workloads) {
						t.Fatalf("the proxy holds %v, and there is %v", m.snapshot.Workloads, truth.Workloads)
					}
				}
				server.dismiss(sub)
			}
		})
	}
}

// An answer that does not fit into one response is partial until its last one.
func TestPartsOfOneAnswer(t *testing.T) {
	large := mem.SliceBuffer(make([]byte, maxResponseBytes)) // never written to, so it costs nothing
	table := newTable()
	for _, name := range []string{"a", "b"} {
		table.put(&entry{kind: kindWorkload, name: name, wire: large})
	}
	s := newSubscription(addressURL, "")
	if err := s.first(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL}, table, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for i, partial := range []bool{true, false} {
		r := s.next(table, func(*entry) bool { return true }, time.Time{})
		says := map[bool]string{true: saysMore, false: saysComplete}[partial]
		if r == nil || len(r.entries) != 1 || r.partial != partial || r.completeness() != says {
			t.Fatalf("response %d: %+v, want one resource, %s", i, r, says)
		}
		s.acknowledge(r.nonce)
	}
}
