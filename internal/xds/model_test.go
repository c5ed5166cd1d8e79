// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/go-logr/logr"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Whatever changes, breaks and restarts in whatever order, a client that is left in peace at the end holds what the
// server holds. No network: requests and responses are handed over one by one, and are lost when a stream breaks.
func TestClientEndsUpWithTheServersState(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m := newMirror()
			client := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses(), Policies()}, Apply: m.apply})
			truth := mesh.NewSnapshot()
			server := NewServer(ServerOptions{Log: logr.Discard()})
			var sub *subscriber
			var inFlight []*message

			connect := func() {
				inFlight = nil
				sub = &subscriber{server: server, wake: make(chan struct{}, 1), types: map[string]*subscription{}, log: logr.Discard()}
				if err := server.enlist(sub); err != nil {
					t.Fatal(err)
				}
				for _, typ := range client.options.Types {
					if _, err := sub.take(client.hello(typ)); err != nil {
						t.Fatal(err)
					}
				}
			}
			send := func() {
				for _, url := range order {
					if r := sub.next(url); r != nil {
						inFlight = append(inFlight, heard(t, r))
					}
				}
			}
			receive := func() {
				if len(inFlight) == 0 {
					return
				}
				r := inFlight[0]
				inFlight = inFlight[1:]
				refusal, err := client.apply(r)
				if err != nil || refusal != nil {
					t.Fatalf("apply: %v %v", refusal, err)
				}
				if _, err := sub.take(&discovery.DeltaDiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce}); err != nil {
					t.Fatal(err)
				}
			}

			connect()
			for range 100 {
				switch rng.IntN(10) {
				case 0: // the stream breaks; what was on its way is lost
					server.dismiss(sub)
					connect()
				case 1: // another replica, or the same one restarted
					server = NewServer(ServerOptions{Log: logr.Discard()})
					server.Update(everything(truth))
					connect()
				case 2, 3, 4, 5:
					d := randomDelta(rng)
					truth.Apply(d)
					server.Update(d)
				case 6, 7:
					send()
				default:
					receive()
				}
			}
			for range 4 { // each type may owe what gathered behind a response in flight
				send()
				receive()
				receive()
			}
			if !reflect.DeepEqual(m.snapshot, truth) {
				t.Errorf("client holds %v, server %v", slicesOf(m.snapshot), slicesOf(truth))
			}
			if got, want := len(client.known[addressURL]), len(truth.Workloads)+len(truth.Services); got != want {
				t.Errorf("client knows %d names, want %d", got, want)
			}
		})
	}
}

// heard is a response as a client gets it.
func heard(t *testing.T, r *response) *message {
	t.Helper()
	buffers, err := newCodec().Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out := new(message)
	if err := newCodec().Unmarshal(buffers, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// received is a response as other clients get it.
func received(t *testing.T, r *response) *discovery.DeltaDiscoveryResponse {
	t.Helper()
	buffers, err := newCodec().Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out := &discovery.DeltaDiscoveryResponse{}
	if err := newCodec().Unmarshal(buffers, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// randomDelta changes a few of a few resources.
func randomDelta(rng *rand.Rand) mesh.Delta {
	d := mesh.Delta{
		Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}, Policies: map[string]*mesh.Policy{},
	}
	for range 1 + rng.IntN(3) {
		name, gone := string(rune('a'+rng.IntN(5))), rng.IntN(3) == 0
		switch rng.IntN(3) {
		case 0:
			if d.Workloads[name] = nil; !gone {
				w := samplePod()
				w.UID, w.Capacity = name, uint32(rng.IntN(3))
				d.Workloads[name] = w
			}
		case 1:
			key := mesh.ServiceKey{Namespace: "n", Hostname: name}
			if d.Services[key] = nil; !gone {
				d.Services[key] = &mesh.Service{Namespace: "n", Hostname: name, Canonical: rng.IntN(2) == 0}
			}
		case 2:
			if d.Policies["n/"+name] = nil; !gone {
				d.Policies["n/"+name] = &mesh.Policy{Namespace: "n", Name: name, DryRun: rng.IntN(2) == 0}
			}
		}
	}
	return d
}

// A control plane that says anything at all neither breaks the client nor makes it forget what it told the application.
func FuzzResponse(f *testing.F) {
	table := newTable()
	for _, make := range []func() (*entry, error){
		func() (*entry, error) { return workloadEntry(samplePod()) },
		func() (*entry, error) { return serviceEntry(sampleService()) },
	} {
		e, err := make()
		if err != nil {
			f.Fatal(err)
		}
		table.put(e)
	}
	s := newSubscription(addressURL, "")
	if err := s.first(wildcard(addressURL), table, s.since); err != nil {
		f.Fatal(err)
	}
	r := s.next(table, func(*entry) bool { return true }, s.since)
	r.removed = []string{"gone", samplePod().UID}
	buffers, err := newCodec().Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	body := buffers.Materialize()
	f.Add(body, body)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		m := newMirror()
		c := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses(), Policies(), Gateway(mesh.GatewayKey{Namespace: "n", Name: "g"})}, Apply: m.apply})
		for _, body := range [][]byte{first, second} {
			r, err := readMessage(body)
			if err != nil {
				return
			}
			if _, err := c.apply(&r); err != nil && c.subscribed(r.url) {
				t.Fatal(err)
			}
		}
		for _, other := range c.options.Types { // it has said all then
			if _, err := c.apply(&message{url: other.url}); err != nil {
				t.Fatal(err)
			}
		}
		for name, h := range c.known[addressURL] {
			namespace, rest, _ := splitName(name)
			if h.kind == kindWorkload && m.snapshot.Workloads[name] == nil ||
				h.kind == kindService && m.snapshot.Services[mesh.ServiceKey{Namespace: namespace, Hostname: rest}] == nil {
				t.Errorf("%q is known, and the application does not have it", name)
			}
		}
		if got, want := len(m.snapshot.Workloads)+len(m.snapshot.Services), len(c.known[addressURL]); got != want {
			t.Errorf("the application has %d addresses, known are %d", got, want)
		}
	})
}
