// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestHeldNamesAreBounded(t *testing.T) {
	for _, tc := range []struct {
		n          int
		everything bool
		want       error
	}{
		{maxHeldNames, false, nil}, {maxHeldNames + 1, false, errTooManyKnown},
		{maxHeldNames + 1, true, nil}, {maxKnownNames, true, nil}, {maxKnownNames + 1, true, errTooManyKnown},
	} {
		if got := checkHeld(tc.n, tc.everything); !errors.Is(got, tc.want) {
			t.Errorf("%d, of everything %t: %v, want %v", tc.n, tc.everything, got, tc.want)
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	long := strings.Repeat("n", maxUID+1)
	many := make(map[string]string, maxHeldNames+1) // too many on demand
	for i := range maxHeldNames + 1 {
		many[strconv.Itoa(i)] = ""
	}
	for _, tc := range []struct {
		name string
		r    *discovery.DeltaDiscoveryRequest
		code codes.Code // with which the stream ends; OK: it is served
	}{
		{"on demand, held too many", &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"x"}, InitialResourceVersions: many}, codes.ResourceExhausted},
		{"on demand as ztunnel says it, held too many", &discovery.DeltaDiscoveryRequest{
			ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"}, InitialResourceVersions: many,
		}, codes.ResourceExhausted},
		{"everything, more than on demand", &discovery.DeltaDiscoveryRequest{InitialResourceVersions: many}, codes.OK},
		{"everything, as it is usually said", &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: many}, codes.OK},
		{"a name too long to be one", &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{long}}, codes.InvalidArgument},
		{"a name too long to be dropped", &discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{long}}, codes.InvalidArgument},
		{"a name too long to be held", &discovery.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{long: ""}}, codes.InvalidArgument},
		{"a version too long to be one", &discovery.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"x": long}}, codes.InvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.r.TypeUrl = addressURL
			if err := newSubscription(addressURL, "").first(tc.r, newTable(), time.Time{}); status.Code(err) != tc.code {
				t.Errorf("got %v, want %s", err, tc.code)
			}
		})
	}
}

// A node's name, which is kept as long as the stream lasts, is no place to leave megabytes.
func TestTheNameOfANodeIsBounded(t *testing.T) {
	s := NewServer(ServerOptions{Log: logr.Discard()})
	for length, code := range map[int]codes.Code{maxName: codes.OK, maxName + 1: codes.InvalidArgument} {
		sub := &subscriber{server: s, wake: make(chan struct{}, 1), types: map[string]*subscription{}, log: logr.Discard()}
		if err := s.enlist(sub); err != nil {
			t.Fatal(err)
		}
		_, err := sub.take(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, Node: &core.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"NODE_NAME": structpb.NewStringValue(strings.Repeat("n", length)),
		}}}})
		if status.Code(err) != code {
			t.Errorf("%d bytes: %v, want %s", length, err, code)
		}
	}
}

// FuzzSubscription: whatever a subscriber says in however many requests, what is kept for it is bounded by the table and by the names that it may have,
// and what it is told are names that exist, or that it named.
func FuzzSubscription(f *testing.F) {
	f.Add("a b", "", "c", true, "d", "a")
	f.Add("*", "*", "net/10.0.0.1", true, "svc", "net/10.0.0.1")
	f.Add("", "", "", false, "*", "*")
	f.Fuzz(func(t *testing.T, subscribe, unsubscribe, known string, ack bool, subscribe2, unsubscribe2 string) {
		table := newTable()
		for _, uid := range []string{"a", "b", "c"} {
			e, err := workloadEntry(pod(uid, "10.0.0.1", "node-1", "svc"))
			if err != nil {
				t.Fatal(err)
			}
			table.put(e)
		}
		table.doubt = func(name string) bool { return strings.HasPrefix(name, "d") }
		named := map[string]bool{}
		words := func(text string) []string {
			for _, w := range strings.Fields(text) {
				named[w] = true
			}
			return strings.Fields(text)
		}
		r := &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: words(subscribe), ResourceNamesUnsubscribe: words(unsubscribe), InitialResourceVersions: map[string]string{}}
		for _, w := range words(known) {
			r.InitialResourceVersions[w] = "v"
		}
		s := newSubscription(addressURL, "node-1")
		tell := func() {
			out := s.next(table, func(*entry) bool { return true }, time.Time{})
			if out == nil {
				return
			}
			for _, name := range out.removed {
				if !named[name] || table.entries[name] != nil || table.doubt(name) {
					t.Errorf("told that %q is gone", name)
				}
			}
			if ack {
				s.acknowledge(out.nonce)
			}
		}
		if s.first(r, table, time.Time{}) != nil {
			return
		}
		tell()
		for range 3 {
			if s.more(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: words(subscribe2)}, table, time.Time{}) != nil {
				return
			}
			if s.more(&discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: words(unsubscribe2)}, table, time.Time{}) != nil {
				return
			}
			tell()
		}
		if most := len(table.entries) + len(named); len(s.pending) > most || len(s.unsure) > most || len(s.held) > most {
			t.Errorf("%d names are pending, %d unsure, %d held", len(s.pending), len(s.unsure), len(s.held))
		}
	})
}

// Who asks and drops again without ever acknowledging makes nothing pile up.
func TestAskingAndDroppingPilesUpNothing(t *testing.T) {
	s, table := newSubscription(addressURL, ""), newTable()
	if err := s.first(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"x"}}, table, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if s.next(table, func(*entry) bool { return true }, time.Time{}) == nil {
		t.Fatal("no first response")
	}
	for i := range 4 {
		table.doubt = map[bool]func(string) bool{true: func(string) bool { return true }}[i%2 == 0]
		r := &discovery.DeltaDiscoveryRequest{}
		for n := range 1000 {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, fmt.Sprint(i, "-", n))
		}
		if err := s.more(r, table, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := s.more(&discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: r.GetResourceNamesSubscribe()}, table, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.pending) != 0 || len(s.unsure) != 0 {
		t.Errorf("%d names are pending and %d unsure", len(s.pending), len(s.unsure))
	}
}
