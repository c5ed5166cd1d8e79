// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func counter(c prometheus.Metric) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// describe shows a response in one line: "+name" for a resource, "-name" for a removal.
func describe(r *discovery.DeltaDiscoveryResponse) string {
	var out []string
	for _, res := range r.GetResources() {
		out = append(out, "+"+res.GetName())
	}
	for _, name := range r.GetRemovedResources() {
		out = append(out, "-"+name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func wildcard(url string) *discovery.DeltaDiscoveryRequest {
	return &discovery.DeltaDiscoveryRequest{TypeUrl: url}
}

func wantResponse(t *testing.T, r *discovery.DeltaDiscoveryResponse, want string) {
	t.Helper()
	if got := describe(r); got != want {
		t.Errorf("response of %s is %q, want %q", short(r.GetTypeUrl()), got, want)
	}
}

// pod makes a small workload of a service.
func pod(uid, addr, node string, services ...string) *mesh.Workload {
	w := &mesh.Workload{UID: uid, Namespace: "n", Node: node, Network: "net"}
	if addr != "" {
		w.Addresses = append(w.Addresses, mustAddr(addr))
	}
	for _, s := range services {
		if w.Services == nil {
			w.Services = map[mesh.ServiceKey][]mesh.Port{}
		}
		w.Services[mesh.ServiceKey{Namespace: "n", Hostname: s}] = []mesh.Port{{Service: 80, Target: 80}}
	}
	return w
}

func workloads(list ...*mesh.Workload) mesh.Delta {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for _, w := range list {
		d.Workloads[w.UID] = w
	}
	return d
}

func TestFirstAnswerOfEachTypeAlsoWhenEmpty(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	c := dialScript(t, server.addr, "good")
	for _, url := range []string{addressURL, authorizationURL} {
		c.say(wildcard(url))
		r := c.hear()
		if r.GetTypeUrl() != url || r.GetNonce() == "" {
			t.Errorf("response is %v", r)
		}
		wantResponse(t, r, "")
		c.ack(r)
	}
	c.silence()
}

func TestVersions(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	server.Update(everything(world()))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	first := c.hear()
	for _, r := range first.GetResources() {
		if r.GetVersion() == "" {
			t.Errorf("%s has no version", r.GetName())
		}
		if r.GetName() == sampleService().Key().String() {
			if got := strings.Join(r.GetAliases(), " "); got != "east/10.96.0.9 west/fd00::9" {
				t.Errorf("aliases of the service are %q", got)
			}
		}
	}
	c.say(wildcard(authorizationURL))
	if r := c.hear(); r.GetResources()[0].GetVersion() != "" {
		t.Error("a policy has a version")
	}

	// Another server gives the same versions for the same content.
	other := start(t, "", ready(t, ServerOptions{}))
	other.Update(everything(world()))
	o := dialScript(t, other.addr, "good")
	o.say(wildcard(addressURL))
	second := o.hear()
	for i, r := range first.GetResources() {
		if s := second.GetResources()[i]; s.GetName() != r.GetName() || s.GetVersion() != r.GetVersion() {
			t.Errorf("%s %s and %s %s differ", r.GetName(), r.GetVersion(), s.GetName(), s.GetVersion())
		}
	}
}

func TestResumeSendsOnlyTheDifference(t *testing.T) {
	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	server.Update(workloads(pod("same", "", ""), pod("changed", "", "")))
	versions := map[string]string{"gone": "x", "changed": "old"}
	versions["same"] = s.tables[addressURL].entries["same"].version
	c := dialScript(t, server.addr, "good")
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, InitialResourceVersions: versions})
	wantResponse(t, c.hear(), "+changed -gone")
}

func TestEqualContentIsNotSentAgain(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	server.Update(workloads(pod("a", "", "")))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	c.ack(c.hear())
	server.Update(workloads(pod("a", "", "")))
	c.silence()
	server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"never was": nil}})
	c.silence()
}

// While a response waits for its acknowledgement, changes gather; what is sent then is the last state of each.
func TestSlowSubscriberGetsTheLastState(t *testing.T) {
	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	first := c.hear()
	for i := range 1000 {
		w := pod("a", "", "")
		w.Capacity = uint32(i)
		server.Update(workloads(w, pod(fmt.Sprintf("b%d", i%3), "", fmt.Sprint(i))))
	}
	server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"b0": nil}})
	c.silence()
	c.ack(first)
	r := c.hear()
	wantResponse(t, r, "+a +b1 +b2 -b0")
	v, err := decode(addressURL, r.GetResources()[0].GetResource().GetValue())
	if err != nil || v.workload.Capacity != 999 {
		t.Errorf("capacity is %d (%v), want 999", v.workload.Capacity, err)
	}
	// Another type is not held up by it.
	c.say(wildcard(authorizationURL))
	if r := c.hear(); r.GetTypeUrl() != authorizationURL {
		t.Errorf("response of %s", r.GetTypeUrl())
	}
}

func TestSubscriberThatNeverAcknowledgesIsDropped(t *testing.T) {
	s := ready(t, ServerOptions{AckTimeout: 40 * time.Millisecond})
	server := start(t, "", s)
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	c.hear()
	if err := c.end(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("stream ended with %v", err)
	}
	eventually(t, "no subscriber is left", func() bool { return server.Subscribers() == 0 })
	if n := counter(s.metrics.abandoned.WithLabelValues("Address")); n != 1 {
		t.Errorf("%v abandoned streams are counted", n)
	}
}

// One that does not even read must not keep the turn of those who do.
func TestSubscriberThatNeverReadsIsDropped(t *testing.T) {
	s := ready(t, ServerOptions{AckTimeout: time.Second})
	s.large, s.largeFrom = newTurns(1), 2
	server := start(t, "", s)
	many := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for i := range 5000 {
		w := pod(fmt.Sprintf("%0200d", i), "", "") // 2 MB in all, many times what is buffered on the way
		many.Workloads[w.UID] = w
	}
	server.Update(many)
	deaf, conn := dialDeaf(t, server.addr, "good")
	defer conn.Close()
	if err := deaf.Send(wildcard(addressURL)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has the turn", func() bool { return s.large.taken() == 1 })
	// gRPC takes one message of any size at once, and the next one when that is on its way.
	if err := deaf.Send(wildcard(authorizationURL)); err != nil {
		t.Fatal(err)
	}
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	if n := len(c.hear().GetResources()); n != 5000 {
		t.Errorf("%d resources", n)
	}
	// On a busy machine the second client may be late with its acknowledgement, too.
	if n := counter(s.metrics.abandoned.WithLabelValues("Authorization")) + counter(s.metrics.abandoned.WithLabelValues("Address")); n < 1 {
		t.Errorf("%v abandoned streams are counted", n)
	}
}

func TestRejectionIsCountedAndTheStreamGoesOn(t *testing.T) {
	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	server.Update(workloads(pod("a", "", "")))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	r := c.hear()
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResponseNonce: r.GetNonce(), ErrorDetail: &rpcstatus.Status{Message: "a: bad"}})
	server.Update(workloads(pod("b", "", "")))
	wantResponse(t, c.hear(), "+b")
	if n := counter(s.metrics.rejected.WithLabelValues("Address")); n != 1 {
		t.Errorf("%v rejections are counted", n)
	}
}

func TestStaleAcknowledgementsCountForNothing(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	r := c.hear()
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResponseNonce: "nonsense"})
	server.Update(workloads(pod("a", "", "")))
	c.silence()
	c.ack(r)
	wantResponse(t, c.hear(), "+a")
}

func TestOnDemand(t *testing.T) {
	authenticate := authenticateAs(Caller{Namespace: "isthmus-system", ServiceAccount: "p"}) // its node comes from the request
	server := start(t, "", ready(t, ServerOptions{Authenticate: authenticate}))
	web := &mesh.Service{Namespace: "n", Hostname: "web", Addresses: []mesh.NetworkAddress{{Network: "net", Addr: mustAddr("10.96.0.1")}}}
	d := workloads(pod("here", "10.0.0.1", "node-1"), pod("web-0", "10.0.0.2", "node-2", "web"), pod("web-1", "10.0.0.3", "node-3", "web"),
		pod("other", "10.0.0.4", "node-2"))
	d.Services = map[mesh.ServiceKey]*mesh.Service{web.Key(): web}
	server.Update(d)

	c := dialScript(t, server.addr, "good")
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: []string{"*"}, ResourceNamesUnsubscribe: []string{"*"},
		Node: &core.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"NODE_NAME": structpb.NewStringValue("node-1")}}}})
	r := c.hear()
	wantResponse(t, r, "+here")
	c.ack(r)

	// A VIP brings its service and all workloads of that.
	ask := func(names ...string) {
		c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: names})
	}
	ask("net/10.96.0.1")
	r = c.hear()
	wantResponse(t, r, "+n/web +web-0 +web-1")
	c.ack(r)
	ask("net/10.0.0.4", "net/10.9.9.9")
	r = c.hear()
	wantResponse(t, r, "+other -net/10.9.9.9")
	c.ack(r)

	// From now on it hears of what it asked for, and of nothing else.
	server.Update(workloads(pod("stranger", "10.0.0.9", "node-9")))
	c.silence()
	server.Update(workloads(pod("web-2", "10.0.0.5", "node-9", "web")))
	r = c.hear()
	wantResponse(t, r, "+web-2")
	c.ack(r)
	server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"web-0": nil, "stranger": nil}})
	r = c.hear()
	wantResponse(t, r, "-web-0")
	c.ack(r)
	server.Update(workloads(pod("late", "10.9.9.9", "node-9"))) // asked for before it existed
	r = c.hear()
	wantResponse(t, r, "+late")
	c.ack(r)
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesUnsubscribe: []string{"late", "net/10.9.9.9"}})
	ask("net/10.8.8.8") // its answer tells that the server has read the line above
	r = c.hear()
	wantResponse(t, r, "-net/10.8.8.8")
	c.ack(r)
	server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"late": nil}})
	c.silence()
}

// A service that was asked for by its VIP and is dropped by it goes with its workloads, but for those that are wanted for another reason.
func TestOnDemandDropsByAlias(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{})) // the caller is on node-1
	web := &mesh.Service{Namespace: "n", Hostname: "web", Addresses: []mesh.NetworkAddress{{Network: "net", Addr: mustAddr("10.96.0.1")}}}
	d := workloads(pod("here", "10.0.0.1", "node-1", "web"), pod("asked", "10.0.0.2", "node-2", "web"), pod("there", "10.0.0.3", "node-3", "web"))
	d.Services = map[mesh.ServiceKey]*mesh.Service{web.Key(): web}
	server.Update(d)
	c := dialScript(t, server.addr, "good")
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: []string{"net/10.96.0.1", "net/10.0.0.2"}})
	r := c.hear()
	wantResponse(t, r, "+asked +here +n/web +there")
	c.ack(r)
	c.say(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesUnsubscribe: []string{"net/10.96.0.1"}, ResourceNamesSubscribe: []string{"net/10.8.8.8"}})
	r = c.hear()
	wantResponse(t, r, "-net/10.8.8.8")
	c.ack(r)
	gone := mesh.Delta{Workloads: map[string]*mesh.Workload{"here": nil, "asked": nil, "there": nil}, Services: map[mesh.ServiceKey]*mesh.Service{web.Key(): nil}}
	server.Update(gone)
	wantResponse(t, c.hear(), "-asked -here")
}

func TestUnknownTypeIsLeftAlone(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard("type.googleapis.com/envoy.config.cluster.v3.Cluster"))
	c.say(wildcard(addressURL))
	if r := c.hear(); r.GetTypeUrl() != addressURL {
		t.Errorf("response of %s", r.GetTypeUrl())
	}
}

func TestValueThatCannotBeEncodedHarmsNobodyElse(t *testing.T) {
	s := ready(t, ServerOptions{})
	server := start(t, "", s)
	bad := pod("bad", "", "")
	bad.Node = "\xff" // proto3 strings are UTF-8
	server.Update(workloads(bad, pod("good", "", "")))
	c := dialScript(t, server.addr, "good")
	c.say(wildcard(addressURL))
	wantResponse(t, c.hear(), "+good")
	if n := counter(s.metrics.unencodable.WithLabelValues("Address")); n != 1 {
		t.Errorf("%v are counted", n)
	}
}

// Large responses wait for each other, small ones for nobody; who goes away makes room.
func TestLargeResponsesTakeTurns(t *testing.T) {
	s := ready(t, ServerOptions{})
	s.large, s.largeFrom = newTurns(1), 2
	server := start(t, "", s)
	server.Update(workloads(pod("a", "", ""), pod("b", "", "")))
	server.Update(mesh.Delta{Policies: map[string]*mesh.Policy{"n/p": {Namespace: "n", Name: "p"}}})

	first, second, third := dialScript(t, server.addr, "good"), dialScript(t, server.addr, "good"), dialScript(t, server.addr, "good")
	first.say(wildcard(addressURL))
	held := first.hear()
	wantResponse(t, held, "+a +b")
	second.say(wildcard(addressURL))
	second.silence()
	second.say(wildcard(authorizationURL))
	r := second.hear()
	wantResponse(t, r, "+n/p")
	second.ack(r)
	server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{"c": pod("c", "", "")}})
	second.silence()
	first.ack(held)
	wantResponse(t, first.hear(), "+c")
	wantResponse(t, second.hear(), "+a +b +c")
	third.say(wildcard(addressURL))
	third.silence()
	if err := second.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wantResponse(t, third.hear(), "+a +b +c")
}
