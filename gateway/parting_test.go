// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// leaver is a scene with a service behind a waypoint, which lets in everybody but the thief, and echoes bytes. It leaves at once.
func leaver(t *testing.T, change func(*Options)) (s *scene, leave func()) {
	s = newScene(t, change)
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) { _, _ = io.Copy(stream, stream) }))
	s.configure(waypointOf(func(g *mesh.Gateway) {
		g.ServicePolicies = guard(cartKey, policyOn("no-thief", mesh.Deny, principal(thiefID)))
	}))
	return s, func() { s.configure(waypointOf(func(g *mesh.Gateway) { g.Fronts = nil })) }
}

// A service that leaves its waypoint loses nothing: what runs goes on, and who has not heard of it is served, by the policies that were in force.
func TestServiceThatLeavesItsWaypoint(t *testing.T) {
	s, leave := leaver(t, nil)
	running := s.beginBytes(clientID)
	leave()
	if err := says(running, "still"); err != nil {
		t.Errorf("what runs: %v", err)
	}
	late := s.beginBytes(clientID)
	if status, reason := s.refusal(s.outer(15008, thiefID), authority, nil); status != 401 || Reason(reason) != ReasonDenied {
		t.Errorf("whom its policies keep out is answered %d %s", status, reason)
	}
	s.configure(waypointOf(func(g *mesh.Gateway) {
		g.Fronts, g.Policies = nil, []*mesh.Policy{policyOn("nobody", mesh.Allow, principal(thiefID))}
	}))
	for name, stream := range map[string]*hbone.Stream{"before": running, "after": late} {
		if !cut(stream) {
			t.Errorf("a stream that began %s it left outlives a policy of the waypoint", name)
		}
	}
}

// Who opens streams long after is refused, what runs is not; and some time that ends, too. A service that comes back is as if it had never left.
func TestServiceThatLeftLongAgo(t *testing.T) {
	s, leave := leaver(t, func(o *Options) { o.Parting, o.Drain = time.Millisecond, time.Hour })
	running := s.beginBytes(clientID)
	leave()
	s.until("new streams are refused", func() bool {
		status, reason := s.refusal(s.outer(15008, clientID), authority, nil)
		return status == 503 && Reason(reason) == ReasonNotBehind
	})
	if err := says(running, "still"); err != nil {
		t.Errorf("what runs: %v", err)
	}
	s.configure(waypointOf(nil))
	s.beginBytes(thiefID) // there is no policy now
	if err := says(running, "on and on"); err != nil {
		t.Errorf("what runs: %v", err)
	}

	s, leave = leaver(t, func(o *Options) { o.Parting, o.Drain = time.Millisecond, time.Millisecond })
	running = s.beginBytes(clientID)
	leave()
	if !cut(running) {
		t.Error("its time was over, and it was not cut")
	}
}

// Clients whose connections stay are told by the next answer to come by another connection.
func TestRequestsToServiceThatLeaves(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	s.configure(waypointOf(routed))
	client := s.within(clientID, authority)
	get := func() *http.Response {
		t.Helper()
		response, err := client.Get("http://cart/x")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response
	}
	if r := get(); r.StatusCode != http.StatusOK || r.Close {
		t.Fatalf("before: %s, close %v", r.Status, r.Close)
	}
	s.configure(waypointOf(func(g *mesh.Gateway) { g.Fronts = nil }))
	for range 3 {
		if r := get(); r.StatusCode != http.StatusOK || !r.Close {
			t.Errorf("after: %s, close %v", r.Status, r.Close)
		}
	}
	if status, body := ask(t, client, "/y"); status != 200 || body[len(body)-len("via=r for=192.0.2.7"):] != "via=r for=192.0.2.7" {
		t.Errorf("its route is forgotten: %d %q", status, body)
	}
}

// narrowed has the waypoint stand in front of cart for callers of its own namespace alone, with a route of theirs.
func narrowed(g *mesh.Gateway) {
	g.Consumed = g.Fronts
	g.ServiceRoutes = []mesh.ServiceRoutes{{Service: cartKey, Consumer: g.Namespace, Routes: []*mesh.HTTPRoute{route("edge", "mine", "/", "mine")}}}
}

// A service may leave for all but the callers of the waypoint's own namespace. Others are served by what was in force for them, and told to go, as if it had left altogether.
func TestServiceThatLeavesForOthers(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	s.configure(waypointOf(routed))
	own := mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "own"}
	get := func(client *http.Client) string {
		t.Helper()
		response, err := client.Get("http://cart/x")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		_, via, _ := strings.Cut(string(body), "via=")
		via, _, _ = strings.Cut(via, " ")
		return fmt.Sprint(response.StatusCode, " ", via, " ", response.Close)
	}
	kept, mine := s.within(clientID, authority), s.within(own, authority)
	for _, client := range []*http.Client{kept, mine} {
		if got := get(client); got != "200 r false" {
			t.Fatalf("before: %s", got)
		}
	}
	s.configure(waypointOf(narrowed))
	for name, client := range map[string]*http.Client{"whose connection was kept": kept, "who has not heard of it": s.within(clientID, authority)} {
		if got := get(client); got != "200 r true" {
			t.Errorf("another namespace's caller %s: %s", name, got)
		}
	}
	if got := get(mine); got != "200 mine false" {
		t.Errorf("the waypoint's own namespace's caller: %s", got)
	}
	s.configure(waypointOf(func(g *mesh.Gateway) {
		narrowed(g)
		g.Policies = []*mesh.Policy{policyOn("all", mesh.Allow, principal(clientID))}
	}))
	if got := get(s.within(clientID, authority)); got != "200 r true" {
		t.Errorf("after another change: %s", got)
	}
	s.configure(waypointOf(routed))
	if got := get(s.within(clientID, authority)); got != "200 r false" {
		t.Errorf("when it is back: %s", got)
	}
}

// Long after, who comes from elsewhere is refused, what runs is not, and some time that ends, too; callers of the waypoint's own namespace notice nothing.
func TestServiceThatLeftForOthersLongAgo(t *testing.T) {
	own := mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "own"}
	begin := func(drain time.Duration) (s *scene, theirs, mine *hbone.Stream) {
		s = newScene(t, func(o *Options) { o.Parting, o.Drain = time.Millisecond, drain })
		s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) { _, _ = io.Copy(stream, stream) }))
		s.configure(waypointOf(nil))
		theirs, mine = s.beginBytes(clientID), s.beginBytes(own)
		s.configure(waypointOf(func(g *mesh.Gateway) { g.Consumed = g.Fronts }))
		return s, theirs, mine
	}
	s, theirs, mine := begin(time.Hour)
	s.until("new streams of others are refused", func() bool {
		status, reason := s.refusal(s.outer(15008, clientID), authority, nil)
		return status == 401 && Reason(reason) == ReasonNotConsumer
	})
	for name, stream := range map[string]*hbone.Stream{"theirs": theirs, "mine": mine, "a new one of mine": s.beginBytes(own)} {
		if err := says(stream, "still"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, theirs, mine = begin(time.Millisecond)
	if !cut(theirs) {
		t.Error("its time was over, and it was not cut")
	}
	if err := says(mine, "still"); err != nil {
		t.Errorf("what runs of the waypoint's own namespace: %v", err)
	}
}

// The time of a service that left ends while the configuration is applied, which takes a while: what runs is cut all the same, though nothing else happens.
func TestTimeThatEndsWhileItIsApplied(t *testing.T) {
	const lasts = 20 * time.Millisecond
	var server atomic.Pointer[Server]
	var mu sync.Mutex
	var applied *config
	late := time.Duration(0)
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		if s := server.Load(); s != nil && s.config.Load() != applied {
			applied = s.config.Load()
			late += 2 * lasts
		}
		return time.Now().Add(late)
	}
	s := newScene(t, func(o *Options) { o.Parting, o.Drain, o.Now = lasts, lasts, now })
	server.Store(s.server)
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) { _, _ = io.Copy(stream, stream) }))
	s.configure(waypointOf(nil))
	theirs := s.beginBytes(clientID)
	s.configure(waypointOf(func(g *mesh.Gateway) { g.Consumed = g.Fronts }))
	if !cut(theirs) {
		t.Error("its time was over, and it was not cut")
	}
}

// TestPartings compares configurations: what counted for a service that left, and what the later one says itself.
func TestPartings(t *testing.T) {
	key := func(name string) mesh.ServiceKey { return mesh.ServiceKey{Namespace: "shop", Hostname: name} }
	keys := func(names ...string) (out []mesh.ServiceKey) {
		for _, n := range names {
			out = append(out, key(n))
		}
		return out
	}
	to := func(from, service string) mesh.ServiceRoutes {
		return mesh.ServiceRoutes{Service: key(from), Routes: []*mesh.HTTPRoute{{Rules: []mesh.HTTPRule{{Backends: []mesh.HTTPBackend{{Service: key(service), Port: 80}}}}}}}
	}
	policies := func(names ...string) (out []mesh.ServicePolicies) {
		for _, n := range names {
			out = append(out, mesh.ServicePolicies{Service: key(n), Policies: []*mesh.Policy{{Namespace: "shop", Name: n}}})
		}
		return out
	}
	settings := func(names ...string) (out []mesh.BackendTLS) {
		for _, n := range names {
			out = append(out, mesh.BackendTLS{Service: key(n), Port: 80, ServerName: n})
		}
		return out
	}
	before := &mesh.Gateway{
		Fronts: keys("a", "b", "c"), ServiceRoutes: []mesh.ServiceRoutes{to("a", "x"), to("b", "y"), to("c", "x")},
		ServicePolicies: policies("a", "b", "x", "y"), BackendTLS: settings("x", "y"),
	}
	began := time.Unix(1000, 0)
	for _, test := range []struct {
		name string
		now  mesh.Gateway
		want mesh.Gateway
	}{
		{"nothing left", mesh.Gateway{Fronts: keys("a", "b", "c")}, mesh.Gateway{Fronts: keys("a", "b", "c")}},
		{
			"one left", mesh.Gateway{Fronts: keys("b"), ServiceRoutes: []mesh.ServiceRoutes{to("b", "y")}, ServicePolicies: policies("b")},
			mesh.Gateway{
				Fronts: keys("a", "b", "c"), ServiceRoutes: []mesh.ServiceRoutes{to("a", "x"), to("b", "y"), to("c", "x")},
				ServicePolicies: policies("a", "b", "x"), BackendTLS: settings("x"),
			},
		},
		{
			"what is reached still has no policy and no TLS any more",
			mesh.Gateway{Fronts: keys("b", "c", "x")},
			mesh.Gateway{Fronts: keys("a", "b", "c", "x"), ServiceRoutes: []mesh.ServiceRoutes{to("a", "x")}, ServicePolicies: policies("a")},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := partings{}
			p.note(before, &test.now, began)
			if got := p.with(&test.now); !reflect.DeepEqual(*got, test.want) {
				t.Errorf("got  %+v\nwant %+v", *got, test.want)
			}
			p.note(&test.now, before, began)
			for _, key := range before.Fronts {
				if _, gone := p[key]; gone {
					t.Errorf("%v came back, and yet it left", key)
				}
			}
		})
	}
	p := partings{}
	p.note(before, &mesh.Gateway{Fronts: keys("b", "c")}, began)
	p.note(&mesh.Gateway{Fronts: keys("b", "c")}, &mesh.Gateway{Fronts: keys("c")}, began.Add(time.Minute))
	for _, test := range []struct {
		at   time.Duration
		want string
	}{
		{0, "late 0, next 1m0s true"}, {time.Minute, "late 1, next 1m0s true"}, {2 * time.Minute, "late 2, next 8m0s true"}, {10*time.Minute + time.Second, "late 2, next 59s true"},
	} {
		now := began.Add(test.at)
		next, some := p.next(now, time.Minute, 10*time.Minute)
		late, _ := p.late(now, time.Minute)
		if got := fmt.Sprintf("late %d, next %v %v", len(late), next, some); got != test.want {
			t.Errorf("after %v: %s, want %s", test.at, got, test.want)
		}
	}
	for at, want := range map[time.Duration]int{9 * time.Minute: 2, 10 * time.Minute: 1, 11 * time.Minute: 0} {
		q := partings{}
		for key, of := range p {
			q[key] = of
		}
		q.forget(began.Add(at), 10*time.Minute)
		if len(q) != want {
			t.Errorf("after %v %d are kept, want %d", at, len(q), want)
		}
	}
}
