// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"net/netip"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// A route at a service behind a waypoint leads to services of the cluster set: one that both clusters share, and one that only the other one has. Once that is shared no more, its requests are
// refused, and those of the other rule are not.
func TestServiceImportsBehindWaypoints(t *testing.T) {
	s := newWaypointed(t, "east")
	east, west := s.cluster["east"], s.cluster["west"]
	stock := must1(west.Nodes[1].EnrolledPod(s.ctx, "stock"))(t)
	serveWeb(s.ctx, t, stock, "stock")
	west.webService(Namespace, "stock", map[string]string{world.LabelGlobal: "true"}, stock)
	// A controller gives what only other clusters have an address, if its namespace is there.
	s.rig.Put(
		&world.Namespace{Key: east.key("", Namespace)},
		world.NewVIP(mesh.ServiceKey{Namespace: Namespace, Hostname: "stock." + Namespace + ".svc." + clusterDomain}, netip.MustParseAddr("240.240.0.7"), netip.Addr{}),
	)
	s.rig.Put(&world.HTTPRoute{Key: east.key(Namespace, "cart"), Parents: []world.RouteParent{atService(Namespace, "cart")}, Rules: []gatewayv1.HTTPRouteRule{
		atPath("/stock", toImport(Namespace, "stock")),
		atPath("/", toImport(Namespace, "cart")),
	}})
	s.rig.Publish()
	s.begin("east", "west")
	s.settle("/stock", "stock")
	// Each gets half: fewer than 5 of 60 have a chance below 1e-11.
	if got := s.asked(60, "/"); got["east"] < 5 || got["west"] < 5 || got[""] > 0 {
		t.Errorf("of 60 requests to the service of both: %v", got)
	}
	if got := s.asked(20, "/stock"); got["stock"] != 20 {
		t.Errorf("of 20 requests to the service of the other cluster: %v", got)
	}

	kept := *s.rig.state.Services[west.key(Namespace, "stock")]
	kept.Labels = nil
	s.rig.Put(&kept)
	s.rig.Publish()
	s.settle("/stock", "")
	if got := s.asked(20, "/"); got[""] > 0 {
		t.Errorf("without the other one, of 20 requests to the service of both: %v", got)
	}
}
