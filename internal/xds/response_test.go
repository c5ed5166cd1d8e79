// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"testing"
	"unsafe"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A response that is put together from parts says what one that was encoded in one go would say.
func TestResponseOnTheWire(t *testing.T) {
	e, err := serviceEntry(sampleService())
	if err != nil {
		t.Fatal(err)
	}
	p, err := policyEntry(samplePolicy())
	if err != nil {
		t.Fatal(err)
	}
	body, err := encodeService(sampleService())
	if err != nil {
		t.Fatal(err)
	}
	policyBody, err := encodePolicy(samplePolicy())
	if err != nil {
		t.Fatal(err)
	}
	got := received(t, &response{url: addressURL, nonce: "7", entries: []*entry{e, p}, removed: []string{"gone", "n/too"}})
	want := &discovery.DeltaDiscoveryResponse{
		SystemVersionInfo: saysComplete, TypeUrl: addressURL, Nonce: "7", RemovedResources: []string{"gone", "n/too"},
		Resources: []*discovery.Resource{
			{Name: sampleService().Key().String(), Version: version(body), Aliases: e.aliases, Resource: &anypb.Any{TypeUrl: addressURL, Value: body}},
			{Name: samplePolicy().Key(), Resource: &anypb.Any{TypeUrl: authorizationURL, Value: policyBody}},
		},
	}
	if !proto.Equal(got, want) {
		t.Errorf("client gets %v, want %v", got, want)
	}
	if buffers, err := (&response{url: addressURL, removed: []string{"\xff"}}).buffers(); err == nil {
		t.Errorf("a name that is no text is told: %q", buffers.Materialize())
	}
	if empty := received(t, &response{url: addressURL, nonce: "1"}); empty.GetNonce() != "1" || len(empty.GetResources()) != 0 {
		t.Errorf("client gets %v", empty)
	}
}

// However many subscribers there are, a change is encoded once, and all of them are sent those very bytes.
func TestAChangeIsEncodedOnceForAll(t *testing.T) {
	s := NewServer(ServerOptions{})
	var subs []*subscriber
	for range 100 {
		sub := &subscriber{server: s, wake: make(chan struct{}, 1), types: map[string]*subscription{}}
		if err := s.enlist(sub); err != nil {
			t.Fatal(err)
		}
		if _, err := sub.take(wildcard(addressURL)); err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	s.Update(workloads(pod("a", "", "")))
	if n := counter(s.metrics.encoded.WithLabelValues("Address")); n != 1 {
		t.Errorf("%v encodings are counted", n)
	}
	sent := map[*byte]int{}
	for _, sub := range subs {
		buffers, err := newCodec().Marshal(sub.next(addressURL))
		if err != nil {
			t.Fatal(err)
		}
		if len(buffers) != 2 {
			t.Fatalf("the message has %d parts, want its head and the resource", len(buffers))
		}
		sent[unsafe.SliceData(buffers[1].ReadOnlyData())]++
	}
	if len(sent) != 1 {
		t.Errorf("the resource was encoded %d times", len(sent))
	}
	// An update that says what was said before is found out by its hash, and told to nobody.
	s.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"a": pod("a", "", "")}})
	for _, sub := range subs {
		if sub.types[addressURL].owing() != 0 {
			t.Fatal("a subscriber is to be told of no change")
		}
	}
}
