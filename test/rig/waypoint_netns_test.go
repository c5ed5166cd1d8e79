// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// waypointed are two clusters that share a service cart of one pod each, behind a waypoint in those that are named.
type waypointed struct {
	t       *testing.T
	ctx     context.Context
	rig     *Rig
	cluster map[string]*Cluster
	proxy   map[string]*Proxy // in front of cart
	client  *Pod              // in east, in the mesh, on another node than cart
	cart    netip.Addr        // in east
}

func newWaypointed(t *testing.T, waypoints ...string) *waypointed {
	r, ctx := newRig(t)
	s := &waypointed{t: t, ctx: ctx, rig: r, cluster: map[string]*Cluster{}, proxy: map[string]*Proxy{}}
	var ready []interface{ Ready(context.Context) error }
	for _, name := range []string{"east", "west"} {
		c := r.Cluster(name)
		s.cluster[name] = c
		front, back := must1(c.Node())(t), must1(c.Node())(t)
		for _, n := range c.Nodes {
			must(t, n.Masquerade(ctx))
			p := must1(n.StartProxy(ctx, ProxyOptions{Drain: time.Second}))(t)
			s.proxy[name] = p // of back in the end
			ready = append(ready, p)
		}
		cart := must1(back.EnrolledPod(ctx, "cart"))(t)
		serveWeb(ctx, t, cart, name)
		at := c.Service("cart", map[string]string{world.LabelGlobal: "true"}, []uint16{80}, cart)
		if name == "east" {
			s.cart, s.client = at, must1(front.EnrolledPod(ctx, "till"))(t)
		}
		ready = append(ready, must1(front.StartGateway(ctx, "edge"))(t))
	}
	for name, c := range s.cluster {
		service := *r.state.Services[c.key(Namespace, "cart")]
		if slices.Contains(waypoints, name) {
			ready = append(ready, must1(c.Nodes[0].StartWaypoint(ctx, "waypoint"))(t))
			service.Labels = map[string]string{world.LabelGlobal: "true", world.LabelUseWaypoint: "waypoint", world.LabelUseWaypointNamespace: SystemNamespace}
		}
		service.Ports = []world.ServicePort{{Name: "http", Port: 80, Target: 80, App: mesh.AppHTTP11}}
		slice := *r.state.EndpointSlices[c.key(Namespace, "cart-1")]
		slice.Ports = []world.EndpointPort{{Name: "http", Port: 80}}
		r.Put(&service, &slice)
	}
	r.Publish()
	for _, p := range ready {
		must(t, p.Ready(ctx))
	}
	return s
}

// asked counts the answers to some requests for a path, each on a connection of its own; those that failed are under "".
func (s *waypointed) asked(n int, path string) map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for range n {
		body, err := s.client.Get(s.ctx, fmt.Sprintf("http://%s%s", netip.AddrPortFrom(s.cart, 80), path))
		if err != nil {
			body = nil
		}
		out[string(body)]++
	}
	return out
}

// begin waits for the first answer from each of some clusters.
func (s *waypointed) begin(from ...string) {
	s.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for missing := len(from); missing > 0; {
		got := s.asked(10, "/")
		missing = 0
		for _, name := range from {
			if got[name] == 0 {
				missing++
			}
		}
		if missing > 0 && time.Now().After(end) {
			for _, log := range []string{"west-edge", "west-waypoint"} {
				text, _ := os.ReadFile(filepath.Join(s.rig.Dir, log+".log"))
				s.t.Logf("%s: %s", log, text)
			}
			s.t.Fatalf("of the last 10 requests: %v", got)
		}
	}
}

// settle waits until all of some requests for a path have the answer; "" is none.
func (s *waypointed) settle(path, want string) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; {
		got := s.asked(10, path)
		if got[want] == 10 {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s: of the last 10 requests: %v, want %q", path, got, want)
		}
	}
}

// Requests that pass a waypoint are spread over the clusters that share the service, whether there is a waypoint at the far end or not, and go on in the other one when the node proxy in
// front of the pods of one is killed.
func TestRequestsPassWaypoints(t *testing.T) {
	for name, waypoints := range map[string][]string{"here": {"east"}, "there": {"west"}, "in both": {"east", "west"}} {
		t.Run(name, func(t *testing.T) {
			s := newWaypointed(t, waypoints...)
			s.begin("east", "west")
			// Each gets half: fewer than 5 of 60 have a chance below 1e-11.
			if got := s.asked(60, "/"); got["east"] < 5 || got["west"] < 5 || got[""] > 0 {
				t.Errorf("of 60 requests: %v", got)
			}
			must(t, s.proxy["east"].Kill())
			if got := s.asked(60, "/"); got["west"] != 60 {
				t.Errorf("without the proxy of the pods here, of 60 requests: %v", got)
			}
		})
	}
}

// What passes the waypoints of two clusters is judged by the policies of both: in the second one, where the first one is the client, and in the first one, where the pod is.
func TestPoliciesOfBothWaypoints(t *testing.T) {
	s := newWaypointed(t, "east", "west")
	s.begin("east", "west")
	deny := func(cluster string, from ...world.PolicySource) {
		s.rig.Put(&world.AuthorizationPolicy{
			Key: s.cluster[cluster].key(Namespace, "cart"), Action: "DENY", HasTargets: true, Targets: []world.PolicyTarget{{Kind: "Service", Name: "cart"}},
			Rules: []world.PolicyRule{{From: from}},
		})
		s.rig.Publish()
	}
	settle := func(what string, fits func(map[string]int) bool) {
		t.Helper()
		for end := time.Now().Add(patience); ; {
			got := s.asked(40, "/") // none of one half of them by chance: once in 10^12 times
			if fits(got) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: of the last 40 requests: %v", what, got)
			}
		}
	}
	deny("west", world.PolicySource{Principals: []string{TrustDomain + "/ns/" + SystemNamespace + "/sa/waypoint"}})
	settle("denied in west", func(got map[string]int) bool { return got["west"] == 0 && got["east"] > 0 })
	deny("east", world.PolicySource{Principals: []string{TrustDomain + "/ns/" + Namespace + "/sa/till"}})
	settle("denied in east", func(got map[string]int) bool { return got[""] == 40 })
}
