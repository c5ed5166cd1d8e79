// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// podServing makes pod n, whose node proxy hands each stream to f.
func (s *scene) podServing(n int, f func(peer mesh.Identity, authority string, stream *hbone.Stream)) *mesh.Workload {
	w := s.tcp(n, func(nc *net.TCPConn) {
		secure := tls.Server(nc, s.source.Server(podID))
		if err := secure.HandshakeContext(s.t.Context()); err != nil {
			return
		}
		peer, err := mtls.Peer(secure.ConnectionState())
		if err != nil {
			return
		}
		conn := hbone.NewServer(secure, hbone.Settings{})
		defer conn.Close()
		for {
			r, err := conn.Accept(context.Background())
			if err != nil {
				return
			}
			stream, err := r.Accept(nil)
			if err != nil {
				return
			}
			go f(peer, r.Authority, stream)
		}
	})
	s.t.Cleanup(func() { // the waypoint keeps its tunnels, which end with it
		s.stop()
		s.server.cut()
		<-s.ended
	})
	return w
}

// requestPod answers requests with its name, the identity that came, and what it was asked.
func (s *scene) requestPod(n int) *mesh.Workload {
	return s.podServing(n, func(peer mesh.Identity, authority string, stream *hbone.Stream) {
		defer stream.Close()
		reader := bufio.NewReader(stream)
		for {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			body := fmt.Sprintf("cart-%d %s %s %s %s via=%s for=%s", n, peer.ServiceAccount, authority, r.Host, r.URL.Path, r.Header.Get("X-Via"), r.Header.Get("X-Forwarded-For"))
			fmt.Fprintf(stream, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
}

// request is the access log's line about a request for a path; nil: there is none.
func (l *lines) request(path string) map[string]any {
	for line := range strings.Lines(l.text()) {
		var out map[string]any
		if json.Unmarshal([]byte(line), &out) == nil && out["msg"] == "request" && out["path"] == path {
			return out
		}
	}
	return nil
}

// waypointOf makes a configuration of a waypoint in front of cart.
func waypointOf(change func(*mesh.Gateway)) func(*mesh.Gateway) {
	return func(g *mesh.Gateway) {
		g.Listeners = []mesh.Listener{{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerWaypoint}}
		g.Exports, g.Fronts = nil, []mesh.ServiceKey{cartKey}
		g.Service = mesh.ServiceKey{Namespace: "edge", Hostname: "west.edge.svc.cluster.local"}
		if change != nil {
			change(g)
		}
	}
}

// route leads a path to cart and marks the request.
func route(namespace, name, path, mark string) *mesh.HTTPRoute {
	return &mesh.HTTPRoute{Namespace: namespace, Name: name, Rules: []mesh.HTTPRule{{
		Matches:  []mesh.HTTPMatch{{Path: path}},
		Filters:  mesh.HTTPFilters{Request: mesh.HeaderChange{Set: []mesh.NameValue{{Name: "X-Via", Value: mark}}}},
		Backends: []mesh.HTTPBackend{{Service: cartKey, Port: 80, Weight: 1}},
	}}}
}

// within gives a client whose requests go in streams of a tunnel to the waypoint; each connection is a stream.
func (s *scene) within(as mesh.Identity, authority string) *http.Client {
	outer := s.outer(15008, as)
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		stream, _, err := outer.Open(ctx, authority, nil)
		return stream, err
	}}}
}

func ask(t *testing.T, client *http.Client, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://cart"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-For", "192.0.2.7")
	response, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// Requests in tunnels are routed by the routes of their service: the caller's own namespace's before everybody's, and without any straight to the service.
func TestWaypointRoutes(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	routes := []mesh.ServiceRoutes{
		{Service: cartKey, Routes: []*mesh.HTTPRoute{route("shop", "producer", "/cart", "producer")}},
		{Service: cartKey, Consumer: "alley", Routes: []*mesh.HTTPRoute{route("alley", "consumer", "/", "consumer")}},
	}
	s.configure(waypointOf(func(g *mesh.Gateway) { g.ServiceRoutes = routes }))
	till, thief := s.within(clientID, "10.96.0.7:80"), s.within(thiefID, authority)
	for _, at := range []struct {
		client     *http.Client
		path, want string
		status     int
	}{
		{till, "/cart/1", "cart-1 west 10.0.0.1:8080 cart /cart/1 via=producer for=192.0.2.7", 200},
		{till, "/other", "404 no_route", 404},
		{thief, "/other", "cart-1 west 10.0.0.1:8080 cart /other via=consumer for=192.0.2.7", 200},
	} {
		if status, body := ask(t, at.client, at.path); status != at.status || strings.TrimSpace(body) != at.want {
			t.Errorf("%s is answered %d %q, want %d %q\n%s", at.path, status, body, at.status, at.want, s.logs.text())
		}
	}
	line := s.logs.request("/cart/1")
	if line["source_identity"] != clientID.String() || line["service"] != cartKey.String() || line["route"] != "shop/producer" || line["endpoint"] != "10.0.0.1:8080" {
		t.Errorf("the access log says %v", line)
	}
	// On the same connection, by another configuration: the port's own routes first, then none at all.
	s.configure(waypointOf(func(g *mesh.Gateway) {
		g.ServiceRoutes = []mesh.ServiceRoutes{routes[0], {Service: cartKey, Port: 80, Routes: []*mesh.HTTPRoute{route("shop", "of-80", "/", "of-80")}}}
	}))
	if status, body := ask(t, till, "/other"); status != 200 || !strings.Contains(body, "via=of-80") {
		t.Errorf("by the port's routes the answer is %d %q", status, body)
	}
	s.configure(waypointOf(nil))
	if status, body := ask(t, till, "/other"); status != 200 || !strings.Contains(body, "via= ") {
		t.Errorf("without routes the answer is %d %q", status, body)
	}
}

// The requests of one connection are spread over the endpoints of a service.
func TestWaypointSpreadsRequests(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1), s.requestPod(2))
	s.configure(waypointOf(func(g *mesh.Gateway) {
		g.ServiceRoutes = []mesh.ServiceRoutes{{Service: cartKey, Routes: []*mesh.HTTPRoute{route("shop", "r", "/", "r")}}}
	}))
	client, seen := s.within(clientID, authority), map[string]int{}
	for range 100 {
		_, body := ask(t, client, "/")
		name, _, _ := strings.Cut(body, " ")
		seen[name]++
	}
	if len(seen) != 2 || seen["cart-1"] < 20 || seen["cart-2"] < 20 { // of 100 tosses fewer than 20 heads come up once in 10^9 times
		t.Errorf("100 requests went to %v", seen)
	}
}

// A waypoint serves what is behind it, and nothing else.
func TestWaypointServesWhatIsBehindIt(t *testing.T) {
	s := newScene(t, nil)
	front := mesh.ServiceKey{Namespace: "edge", Hostname: "west.edge.svc.cluster.local"}
	behind := s.requestPod(3)
	behind.Waypoint = &mesh.GatewayAddress{Hostname: front, Port: 15008}
	s.add(s.requestPod(1), behind)
	s.configure(waypointOf(nil))
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{
		tillKey: {Namespace: "shop", Name: "till", Hostname: tillKey.Hostname, Ports: []mesh.Port{{Service: 80, Target: 8080}}, Addresses: []mesh.NetworkAddress{{Network: "west", Addr: netip.MustParseAddr("10.96.0.8")}}},
		front:   {Namespace: "edge", Name: "west", Hostname: front.Hostname, Ports: []mesh.Port{{Service: 15008, Target: 15008}}},
	}})
	outer := s.outer(15008, clientID)
	for authority, want := range map[string]string{
		"10.96.0.8:80":                     "503 not_behind_this_waypoint",
		"till.shop.svc.cluster.local:80":   "503 not_behind_this_waypoint",
		"10.0.0.1:8080":                    "503 not_behind_this_waypoint", // a pod that is not behind it by itself
		"192.0.2.1:80":                     "503 not_behind_this_waypoint",
		"10.0.0.3:8080":                    "200 ",
		"cart.shop.svc.cluster.local:80":   "200 ",
		"cart.shop.svc.cluster.local:8080": "503 unknown_port",
	} {
		status, reason := s.refusal(outer, authority, nil)
		if got := fmt.Sprintf("%d %s", status, reason); got != want {
			t.Errorf("%s is answered %s, want %s", authority, got, want)
		}
	}
	if status, body := ask(t, s.within(clientID, "10.0.0.3:8080"), "/x"); status != 200 || !strings.HasPrefix(body, "cart-3 west 10.0.0.3:8080 cart /x") {
		t.Errorf("the pod behind the waypoint answers %d %q", status, body)
	}
}

// Policies judge requests for themselves, with 403, and streams of anything else, with 401.
func TestWaypointPolicies(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	web := func(change func(*mesh.Gateway)) {
		s.t.Helper()
		s.configure(waypointOf(change))
		s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.Ports[0].App = mesh.AppHTTP11 })}})
	}
	web(nil)
	till, thief := s.within(clientID, authority), s.within(thiefID, authority)
	if status, body := ask(t, thief, "/"); status != 200 {
		t.Fatalf("without a policy: %d %q", status, body)
	}
	guarded := func(g *mesh.Gateway) {
		g.ServicePolicies = guard(cartKey, policyOn("till", mesh.Allow, principal(clientID)))
	}
	web(guarded)
	for name, at := range map[string]struct {
		client *http.Client
		want   int
	}{"allowed": {till, 200}, "on a connection that was there before": {thief, 403}, "on a new one": {s.within(thiefID, authority), 403}} {
		if status, body := ask(t, at.client, "/"); status != at.want {
			t.Errorf("%s: %d %q, want %d", name, status, body, at.want)
		}
	}
	s.configure(waypointOf(guarded)) // the port's protocol is not known now, and there are no routes: bytes
	if status, reason := s.refusal(s.outer(15008, thiefID), authority, nil); status != 401 || Reason(reason) != ReasonDenied {
		t.Errorf("a stream of bytes is answered %d %s", status, reason)
	}
}

// What comes from another network is for endpoints of this one: its side has chosen, and two waypoints that sent requests to each other would never end.
func TestWaypointServesOtherNetworksHere(t *testing.T) {
	s := newScene(t, nil)
	far := podWorkload(2, nil)
	far.Network, far.Addresses = "east", nil
	far.NetworkGateway = &mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: "east", Addr: netip.MustParseAddr("203.0.113.1")}, Port: 15008}
	s.add(far)
	for _, of := range []struct {
		name string
		app  mesh.AppProtocol
		want string
	}{{"requests", mesh.AppHTTP11, "503 no_endpoint"}, {"bytes", mesh.AppTCP, "no_endpoint"}} {
		s.configure(waypointOf(nil))
		s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.Ports[0].App = of.app })}})
		outer := s.outer(15008, clientID)
		for from, here := range map[string]bool{"EAST": true, "west": false, "": false} {
			var header hbone.Header
			if from != "" {
				header = hbone.Header{{Name: reach.HeaderNetwork, Value: from}}
			}
			var got string
			if of.app == mesh.AppTCP {
				_, got = s.refusal(outer, authority, header)
			} else {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				stream, _, err := outer.Open(ctx, authority, header)
				if err != nil {
					t.Fatal(err)
				}
				_ = stream.SetDeadline(time.Now().Add(patience))
				fmt.Fprint(stream, "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n")
				response, err := http.ReadResponse(bufio.NewReader(stream), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				got = strings.TrimSpace(string(body))
				stream.Close()
				cancel()
			}
			if (got == of.want) != here { // else the other network's gateway is looked for
				t.Errorf("%s from %q are answered %q", of.name, from, got)
			}
		}
	}
}

// Who comes to a waypoint through an east-west gateway, which cannot read what it asks for there, reaches exported services only. The gateway itself may ask for all.
func TestWaypointBehindAGateway(t *testing.T) {
	s := newScene(t, nil)
	behind := s.requestPod(3)
	behind.Waypoint = &mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "edge", Hostname: "west.edge.svc.cluster.local"}, Port: 15008}
	s.add(s.requestPod(1), behind)
	s.configure(waypointOf(nil))
	ask := func(as mesh.Identity, authority, want string) {
		t.Helper()
		status, reason := s.refusal(s.outer(15008, as), authority, nil)
		if got := fmt.Sprintf("%d %s", status, reason); got != want {
			t.Errorf("%s is answered %s for %s, want %s", as, got, authority, want)
		}
	}
	ask(clientID, authority, "200 ")
	s.add(podWorkload(9, func(w *mesh.Workload) { // where the clients of this test come from
		w.Addresses, w.Namespace, w.ServiceAccount, w.Gateway, w.Services = []netip.Addr{netip.MustParseAddr("127.0.0.1")}, "edge", "door", true, nil
	}))
	ask(clientID, authority, "503 not_exported")
	ask(clientID, "10.96.0.7:80", "503 not_exported")
	ask(clientID, "10.0.0.3:8080", "503 not_exported")
	ask(mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "door"}, authority, "200 ")
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.Exported = true })}})
	ask(clientID, authority, "200 ")
	ask(clientID, "10.0.0.3:8080", "503 not_exported")
}

// A client that listens first, or speaks something else, reaches the service although there are routes for its port.
func TestWaypointPassesOtherBytesOn(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) {
		fmt.Fprint(stream, "hello ")
		_, _ = io.Copy(stream, stream)
		stream.CloseWrite()
	}))
	s.configure(waypointOf(func(g *mesh.Gateway) {
		g.ServiceRoutes = []mesh.ServiceRoutes{{Service: cartKey, Routes: []*mesh.HTTPRoute{route("shop", "r", "/", "r")}}}
	}))
	outer := s.outer(15008, clientID)
	for _, say := range []string{"", "\x16\x03\x01 not a request", "GETALL"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		stream, _, err := outer.Open(ctx, authority, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetDeadline(time.Now().Add(patience))
		if say == "" { // it waits until it was greeted
			greeting := make([]byte, 6)
			if _, err := io.ReadFull(stream, greeting); err != nil || string(greeting) != "hello " {
				t.Errorf("greeted with %q, %v", greeting, err)
			}
		}
		fmt.Fprint(stream, say)
		stream.CloseWrite()
		got, err := io.ReadAll(stream)
		if want := "hello " + say; say != "" && string(got) != want || err != nil {
			t.Errorf("%q came back as %q, %v\n%s", say, got, err, s.logs.text())
		}
		stream.Close()
		cancel()
	}
}

// An empty line before a request is none of other bytes.
func TestWaypointBearsAnEmptyLine(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) { // a pod that has requests come without it
		reader := bufio.NewReader(stream)
		if line, err := reader.ReadString('\n'); err == nil && line != "\r\n" {
			fmt.Fprintf(stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		}
		stream.Close()
	}))
	s.configure(waypointOf(routed))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, _, err := s.outer(15008, clientID).Open(ctx, authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	_ = stream.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(stream, "\r\nGET /lines HTTP/1.1\r\nHost: cart\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(stream), nil)
	if err != nil || response.StatusCode != http.StatusNoContent {
		t.Fatalf("%v, %v", response, err)
	}
	response.Body.Close()
	stream.CloseWrite()
	s.until("it is logged as a request", func() bool { return s.logs.request("/lines") != nil })
}

// A waypoint that is told to end lets requests end, and is done although clients keep their connections.
func TestWaypointDrains(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	s.configure(waypointOf(func(g *mesh.Gateway) {
		g.ServiceRoutes = []mesh.ServiceRoutes{{Service: cartKey, Routes: []*mesh.HTTPRoute{route("shop", "r", "/", "r")}}}
	}))
	client := s.within(clientID, authority)
	if status, body := ask(t, client, "/"); status != 200 {
		t.Fatalf("%d %q", status, body)
	}
	began := time.Now()
	s.stop()
	<-s.ended
	if took := time.Since(began); took >= patience {
		t.Errorf("draining took %v, all of the time that it had", took)
	}
}

// A stream that was answered with 200 is served, also if what it carries comes when the waypoint drains already; its client is told to ask no more there.
func TestWaypointServesWhatItAnsweredBeforeItDrained(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	s.configure(waypointOf(routed))
	outer := s.outer(15008, clientID)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, _, err := outer.Open(ctx, authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	_ = stream.SetDeadline(time.Now().Add(patience))
	s.stop()
	s.until("the waypoint drains", outer.Draining)
	fmt.Fprint(stream, "GET /late HTTP/1.1\r\nHost: cart\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(stream), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.logs.text())
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("answered with %d", response.StatusCode)
	}
	stream.CloseWrite()
	<-s.ended
}

func FuzzBeginsHTTP(f *testing.F) {
	for _, seed := range []string{"GET / HTTP/1.1\r\n", http2Preface, "PRI * HTTP/2.0", "\x16\x03\x01", "", "OPTIONS * H", "get http://x", "A B", " /", "\r\nGET / HTTP/1.1", "\n\n\n\n\nGET /"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, first []byte) {
		first = first[:min(len(first), sniffBytes)]
		is, plain := beginsHTTP(first)
		if is && !plain {
			t.Errorf("%q is HTTP, and that is not plain", first)
		}
		for n := range first { // what was plain with less stays so
			if before, was := beginsHTTP(first[:n]); was && (before != is || !plain) {
				t.Errorf("%q is %v, %q is %v", first[:n], before, first, is)
			}
		}
	})
}
