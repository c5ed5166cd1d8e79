// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestExchange carries the messages of a client and a server by hand, one of which holds a resource that cannot be believed.
func TestExchange(t *testing.T) {
	server := NewServer(ServerOptions{Log: logr.Discard()})
	want := world()
	d := everything(want)
	bad := &mesh.Workload{UID: "bad", Namespace: strings.Repeat("n", maxName+1)}
	d.Workloads[bad.UID] = bad
	server.Update(d)
	sub := &subscriber{server: server, wake: make(chan struct{}, 1), types: map[string]*subscription{}, log: logr.Discard()}
	if err := server.enlist(sub); err != nil {
		t.Fatal(err)
	}
	m := newMirror()
	c := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses(), Policies()}, Node: NodeInfo{ID: "me"}, Apply: m.apply})
	requests, err := c.Hello()
	if err != nil || len(requests) != 2 {
		t.Fatalf("begins with %d requests, %v", len(requests), err)
	}
	take := func(i int, body []byte) *discovery.DeltaDiscoveryRequest {
		t.Helper()
		r := new(discovery.DeltaDiscoveryRequest)
		if err := proto.Unmarshal(body, r); err != nil {
			t.Fatal(err)
		}
		if (r.GetNode().GetId() == "me") != (i == 0) {
			t.Errorf("request %d is of node %q", i, r.GetNode().GetId())
		}
		if _, err := sub.take(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for i, r := range requests {
		take(i, r)
	}
	for i, url := range []string{addressURL, authorizationURL} {
		answer, err := c.Hear(wireOfResponse(t, sub.next(url)))
		if err != nil {
			t.Fatal(err)
		}
		if refused := take(1+i, answer).GetErrorDetail().GetMessage(); strings.Contains(refused, "bad: namespace has") != (url == addressURL) {
			t.Errorf("of %s is refused %q", url, refused)
		}
		if r := sub.next(url); r != nil {
			t.Errorf("%s is not acknowledged: %v follows", url, r)
		}
	}
	m.await(t, want)
	if answer, err := c.Hear([]byte{0xff}); err == nil || answer != nil {
		t.Errorf("what is no message is answered: %q, %v", answer, err)
	}
	failed := errors.New("not now")
	m.refuse = func(mesh.Delta) error { return failed }
	server.Update(mesh.Delta{Policies: map[string]*mesh.Policy{samplePolicy().Key(): nil}})
	if answer, err := c.Hear(wireOfResponse(t, sub.next(authorizationURL))); !errors.Is(err, failed) || len(answer) == 0 {
		t.Errorf("what could not be applied is answered: %q, %v", answer, err)
	}
}
