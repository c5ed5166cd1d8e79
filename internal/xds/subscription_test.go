// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// told is a subscription without a stream, and the table that it is told of.
type told struct {
	t     *testing.T
	table *table
	*subscription
}

func newTold(t *testing.T, node string, subscribe, unsubscribe []string, known map[string]string, there ...*entry) *told {
	t.Helper()
	s := &told{t, newTable(), newSubscription(addressURL, node)}
	for _, e := range there {
		s.table.put(e)
	}
	r := &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: subscribe, ResourceNamesUnsubscribe: unsubscribe, InitialResourceVersions: known}
	if err := s.first(r, s.table, time.Time{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *told) say(subscribe, unsubscribe []string) {
	s.t.Helper()
	r := &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: subscribe, ResourceNamesUnsubscribe: unsubscribe}
	if err := s.more(r, s.table, time.Time{}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *told) put(e *entry) { s.changed(s.table.put(e), e, time.Time{}) }

func (s *told) remove(name string) { s.changed(s.table.remove(name), nil, time.Time{}) }

// hears acknowledges the response that is due, which must be what is wanted, in the form of describe; "none" if none is.
func (s *told) hears(want string) {
	s.t.Helper()
	got := "none"
	if r := s.next(s.table, func(*entry) bool { return true }, time.Time{}); r != nil {
		got = describe(received(s.t, r))
		s.acknowledge(r.nonce)
	}
	if got != want {
		s.t.Errorf("it hears %q, want %q", got, want)
	}
}

func podEntry(t *testing.T, uid, addr, node string, services ...string) *entry {
	t.Helper()
	e, err := workloadEntry(pod(uid, addr, node, services...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func webEntry(t *testing.T) *entry {
	t.Helper()
	e, err := serviceEntry(&mesh.Service{Namespace: "n", Hostname: "web", Addresses: []mesh.NetworkAddress{{Network: "net", Addr: mustAddr("10.96.0.1")}}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Who wants everything and asks for some of it by another of its names besides, is told of it once.
func TestEverythingAndAnAliasOfIt(t *testing.T) {
	s := newTold(t, "", []string{"*", "net/10.0.0.1"}, nil, nil, podEntry(t, "a", "10.0.0.1", ""))
	s.hears("+a")
	s.say([]string{"net/10.0.0.1"}, nil)
	s.put(podEntry(t, "a", "10.0.0.1", "node-2"))
	s.hears("+a")
	s.say([]string{"net/10.0.0.2"}, nil) // not there yet when it is asked for, and dropped before it is told
	s.put(podEntry(t, "b", "10.0.0.2", ""))
	s.say(nil, []string{"net/10.0.0.2"})
	s.hears("+b")
}

// Who stops wanting everything goes on hearing of what it had asked for by name: of a service's new workloads, too.
func TestLeavingEverythingKeepsWhatWasNamed(t *testing.T) {
	everything := []string{"*"}
	web, other := webEntry(t), podEntry(t, "other", "10.0.0.4", "node-2")
	for what, s := range map[string]*told{
		"named with it": newTold(t, "node-1", []string{"*", "n/web"}, nil, nil, web, other),
		"named first":   newTold(t, "node-1", []string{"n/web"}, nil, nil, web, other),
		"by its VIP":    newTold(t, "node-1", []string{"*", "net/10.96.0.1"}, nil, nil, web, other),
	} {
		t.Run(what, func(t *testing.T) {
			s.t = t
			if s.wildcard {
				s.hears("+n/web +other")
			} else {
				s.hears("+n/web")
				s.put(podEntry(t, "w0", "10.0.0.5", "node-2", "web"))
				s.hears("+w0")
				s.say(everything, nil)
				s.hears("+n/web +other +w0")
				s.remove("w0")
				s.hears("-w0")
			}
			s.put(podEntry(t, "here", "10.0.0.2", "node-1"))
			s.put(podEntry(t, "w1", "10.0.0.3", "node-2", "web"))
			s.hears("+here +w1")
			s.say(nil, everything)
			s.hears("+here +w1") // it may have dropped what it had not named
			s.put(podEntry(t, "w2", "10.0.0.6", "node-3", "web"))
			s.put(podEntry(t, "stranger", "10.0.0.7", "node-3"))
			s.remove("other")
			s.hears("+w2")
			s.remove("w1")
			s.hears("-w1")
		})
	}
}

// In one request, what is asked for is asked for, whatever is said of everything in it and in which order.
func TestServicesAskedForWithTheWordThatNotEverythingIsWanted(t *testing.T) {
	everything := []string{"*"}
	s := newTold(t, "", []string{"*", "n/web"}, everything, map[string]string{"n/web": webEntry(t).version}, webEntry(t), podEntry(t, "w", "10.0.0.3", "node-2", "web"))
	s.hears("+w")
	s.say([]string{"*"}, nil)
	s.hears("+n/web +w")
	s.say([]string{"net/10.96.0.1"}, everything)
	s.hears("+n/web +w")
	s.put(podEntry(t, "w2", "10.0.0.4", "node-2", "web"))
	s.hears("+w2")
}

// A service that is dropped is forgotten, also when it was gone by then.
func TestDroppingWhatIsGone(t *testing.T) {
	for _, name := range []string{"n/web", "net/10.96.0.1"} {
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			s := newTold(t, "", []string{name}, nil, nil, webEntry(t))
			s.hears("+n/web")
			s.remove("n/web")
			s.say(nil, []string{name})
			if s.due() { // by its name it is not waited for any more
				s.hears("-n/web")
			}
			if len(s.follows) != 0 || len(s.held) != 0 || len(s.asked) != 0 || s.words != 0 {
				t.Errorf("%d services are followed, %d names held, %d asked for; %d bytes are kept", len(s.follows), len(s.held), len(s.asked), s.words)
			}
			s.put(podEntry(t, "w", "10.0.0.3", "node-2", "web"))
			s.put(webEntry(t))
			s.hears("none")
		})
	}
}

// A service that was asked for by two names is dropped with the last of them.
func TestDroppingOneOfTwoNames(t *testing.T) {
	s := newTold(t, "", []string{"n/web", "net/10.96.0.1"}, nil, nil, webEntry(t))
	s.hears("+n/web")
	s.say(nil, []string{"n/web"})
	s.put(podEntry(t, "w", "10.0.0.3", "node-2", "web"))
	s.hears("+w")
	s.say(nil, []string{"net/10.96.0.1"})
	s.put(podEntry(t, "w2", "10.0.0.4", "node-2", "web"))
	s.hears("none")
}

// A name that is asked for over and over is kept once, counts once, and is told each time.
func TestAskingForTheSameAgain(t *testing.T) {
	s := newTold(t, "", []string{"a", "b", "b"}, nil, nil, podEntry(t, "a", "", ""))
	s.hears("+a -b")
	once := s.words
	if want := 2 * weight("a"); once != want {
		t.Errorf("%d bytes are kept, want %d", once, want)
	}
	for range 3 {
		s.say([]string{"a", "b"}, nil)
		s.hears("+a -b")
	}
	if s.words != once {
		t.Errorf("%d bytes are kept after it asked again, want %d", s.words, once)
	}
	for range maxSubscribedNames + 1 { // and none of it is acknowledged
		s.say([]string{"a"}, nil)
	}
	s.say(nil, []string{"a", "b"})
	if s.words != 0 {
		t.Errorf("%d bytes are kept after all was dropped", s.words)
	}
}

// What one who wants everything asks for and drops again may still be pending, and counts until it is told.
func TestDroppedNamesOfOneWhoWantsEverythingCount(t *testing.T) {
	s := newTold(t, "", []string{"*"}, nil, nil)
	s.hears("")
	s.say([]string{"x"}, nil)
	s.say(nil, []string{"x"})
	if s.words != weight("x") || len(s.pending) != 1 {
		t.Errorf("%d bytes count for %d pending names", s.words, len(s.pending))
	}
	s.hears("-x")
	if s.words != 0 {
		t.Errorf("%d bytes count after it was told", s.words)
	}
	s.say([]string{"y", "z"}, nil)
	s.hears("-y -z")
	s.say(nil, []string{"y"})
	if s.words != weight("z") {
		t.Errorf("%d bytes count for one name that is asked for", s.words)
	}
	s.say(nil, []string{"z"})
	s.hears("none")
	if s.words != 0 {
		t.Errorf("%d bytes count after all was dropped", s.words)
	}
}

// Who drops a name that he asked for beside everything still hears that it is gone: it was one of all.
func TestDroppedNameOfOneWhoWantsEverythingIsGone(t *testing.T) {
	s := newTold(t, "", []string{"*", "a"}, nil, nil, podEntry(t, "a", "", ""))
	s.hears("+a")
	s.remove("a")
	s.say(nil, []string{"a"})
	s.hears("-a")
	if s.words != 0 {
		t.Errorf("%d bytes count", s.words)
	}
}

// Names that are said to be held count until they are told to be gone, and while that is in doubt.
func TestHeldNamesCountUntilTheyAreTold(t *testing.T) {
	for what, subscribe := range map[string][]string{"everything": {"*"}, "on demand": {"a"}} {
		t.Run(what, func(t *testing.T) {
			s := &told{t, newTable(), newSubscription(addressURL, "")}
			s.table.put(podEntry(t, "a", "", ""))
			s.table.doubt = func(name string) bool { return name == "unread" }
			r := &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: subscribe, InitialResourceVersions: map[string]string{"gone": "1", "unread": "1"}}
			if err := s.first(r, s.table, time.Time{}); err != nil {
				t.Fatal(err)
			}
			asked := s.words - weight("gone") - weight("unread")
			s.hears("+a -gone")
			if s.words < asked+weight("unread") {
				t.Errorf("%d bytes count while one is in doubt", s.words)
			}
			s.table.doubt = nil
			s.settle(s.table, time.Time{})
			s.hears("-unread")
			if s.words != asked {
				t.Errorf("%d bytes count after all was told, want %d", s.words, asked)
			}
		})
	}
}
