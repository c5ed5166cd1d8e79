// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// remoteSource is a client of another network with the real tunnels to the scene's gateway.
type remoteSource struct {
	*scene
	tunnels *reach.Tunnels
	health  *reach.Health
	plan    reach.Plan
}

func (s *scene) remoteSource(settings hbone.Settings) *remoteSource {
	s.t.Helper()
	health := reach.NewHealth(time.Now, func() float64 { return 0 })
	tunnels := reach.NewTunnels(reach.TunnelOptions{
		Certificates: s.source, Settings: settings, Health: health,
		Connect: func(ctx context.Context, _ netip.AddrPort) (relay.Conn, error) {
			return dialTCP(ctx, netip.MustParseAddrPort(s.address(15008)))
		},
	})
	s.t.Cleanup(func() { tunnels.Close() })
	at := netip.MustParseAddrPort("203.0.113.1:15008")
	return &remoteSource{s, tunnels, health, reach.Plan{
		Via: reach.DoubleHBONE, Dial: at, Target: authority, Next: []mesh.Identity{gatewayID}, Last: []mesh.Identity{podID}, Service: cartService(nil),
		Endpoint: &mesh.Workload{UID: "split", Network: "west"}, Picked: "split",
		Gateway: mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: "west", Addr: at.Addr()}, Port: at.Port()},
	}}
}

// call makes one connection, and gives the pod that answered.
func (r *remoteSource) call() (string, *reach.Failure) {
	ctx, cancel := context.WithTimeout(r.t.Context(), reach.ConnectDeadline)
	defer cancel()
	conn, failure := r.tunnels.Dial(ctx, clientID, r.plan, nil, "east")
	if failure != nil {
		return "", failure
	}
	defer conn.Finish()
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if err := conn.CloseWrite(); err != nil {
		r.t.Error(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		r.t.Error(err)
	}
	name, _, _ := strings.Cut(string(answer), " ")
	return name, nil
}

// TestFrozenPodCostsOneConnectionAMoment: a pod whose proxy takes connections and says nothing, as one that is stopped, does not cost connections for which there are other pods. The gateway notices, so
// that other sources do not find out for themselves.
func TestFrozenPodCostsOneConnectionAMoment(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.pod(1), s.tcp(2, func(nc *net.TCPConn) { _, _ = io.Copy(io.Discard, nc) }), s.pod(3))
	source := s.remoteSource(hbone.Settings{})
	hits, began := map[string]int{}, time.Now()
	for i := range 20 {
		if i == 10 {
			source = s.remoteSource(hbone.Settings{})
		}
		name, failure := source.call()
		if failure != nil {
			t.Fatalf("after %v and %v: %v", hits, time.Since(began), failure.Refusal)
		}
		hits[name]++
	}
	if hits["cart-1"] < 5 || hits["cart-3"] < 5 {
		t.Errorf("of 20 connections: %v", hits)
	}
	tried := 0
	for _, to := range s.dialled() {
		if to.Addr() == netip.MustParseAddr("10.0.0.2") {
			tried++
		}
	}
	if tried > 2 { // once, and maybe once more on a machine that takes seconds for this
		t.Errorf("the frozen one was tried %d times in %v", tried, time.Since(began))
	}
}

// TestSlowPodsAreNoFaultOfTheGateway: a gateway that lives, and whose connections to the pods of a service are lost on the way, is passed over for that service only.
func TestSlowPodsAreNoFaultOfTheGateway(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(podWorkload(1, nil), podWorkload(2, nil))
	s.mu.Lock()
	s.black[netip.MustParseAddrPort("10.0.0.1:15008")], s.black[netip.MustParseAddrPort("10.0.0.2:15008")] = true, true
	s.mu.Unlock()
	source := s.remoteSource(hbone.Settings{ProbeAfter: 50 * time.Millisecond})
	connect := func(dial func(context.Context, reach.Plan) (*reach.Conn, *reach.Failure)) *reach.Refusal {
		search := reach.Search[*reach.Conn]{
			Health: source.health, Once: true,
			Decide: func(c reach.Choice) (reach.Plan, *reach.Refusal) {
				if !c.Avoid.Empty() {
					return reach.Plan{}, &reach.Refusal{Reason: reach.ReasonNoEndpoint, Err: io.EOF}
				}
				return source.plan, nil
			},
			Dial: dial, Down: func(plan reach.Plan) { source.tunnels.Watch(clientID, plan) },
		}
		_, _, refusal := search.Connect(t.Context(), netip.MustParseAddrPort("240.240.0.1:80"))
		return refusal
	}
	if refusal := connect(func(ctx context.Context, plan reach.Plan) (*reach.Conn, *reach.Failure) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return source.tunnels.Dial(ctx, clientID, plan, nil, "east")
	}); refusal == nil {
		t.Fatal("it was connected")
	}
	if endpoints, gateways := source.health.Counts(); endpoints != 1 || gateways != 0 {
		t.Errorf("%d services and %d gateways are passed over", endpoints, gateways)
	}
	// Nor is one that was down for another reason kept out when it is asked for that service, and lives.
	connect(func(context.Context, reach.Plan) (*reach.Conn, *reach.Failure) {
		return nil, &reach.Failure{Refusal: &reach.Refusal{Reason: reach.ReasonConnect, Err: io.EOF}, Gateway: true}
	})
	if _, gateways := source.health.Counts(); gateways != 1 {
		t.Fatalf("%d gateways are passed over", gateways)
	}
	s.until("the gateway is found well", func() bool { _, gateways := source.health.Counts(); return gateways == 0 })
}

// TestSourcesComeBackToNearPods: who has gone to farther pods, as long as those that are near were away, comes back to all that are near.
func TestSourcesComeBackToNearPods(t *testing.T) {
	own := netip.MustParseAddr("10.0.0.200")
	s := newScene(t, func(o *Options) { o.Address = own })
	s.configure(nil)
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) {
		svc.Balance = mesh.LoadBalancing{Mode: mesh.BalanceFailover, Preference: []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone}}
	})}})
	pods := []*mesh.Workload{s.pod(1), s.pod(2), s.pod(3), s.pod(4)}
	tell := func(nearReady bool) {
		for i, w := range pods {
			is := *w
			is.Locality = mesh.Locality{Region: "eu", Zone: "a"}
			if i > 1 {
				is.Locality.Zone = "b"
			}
			is.Unhealthy = i < 2 && !nearReady
			s.add(&is)
		}
	}
	s.add(podWorkload(200, func(w *mesh.Workload) {
		w.UID, w.Name, w.Services, w.Locality = "west//Pod/edge/west-1", "west-1", nil, mesh.Locality{Region: "eu", Zone: "a"}
	}))
	source := s.remoteSource(hbone.Settings{})
	calls := func(n int) map[string]int {
		hits := map[string]int{}
		for range n {
			name, failure := source.call()
			if failure != nil {
				t.Fatal(failure.Refusal)
			}
			hits[name]++
		}
		return hits
	}
	tell(false)
	source.plan.Behind = 2
	if hits := calls(10); hits["cart-3"] != 5 || hits["cart-4"] != 5 {
		t.Errorf("with the near ones away: %v", hits)
	}
	tell(true)
	source.plan.Behind = 4
	calls(4) // which find out
	if hits := calls(20); hits["cart-1"] < 5 || hits["cart-2"] < 5 || hits["cart-1"]+hits["cart-2"] != 20 {
		t.Errorf("with the near ones back: %v", hits)
	}
}
