// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// A namespace has a route of its own at somebody else's service. Its clients, and no others, pass its waypoint and get what the route says; once the service has a waypoint of its own, that
// one does what both routes say, each for its callers.
func TestConsumersHaveTheirOwnRoute(t *testing.T) {
	const consumer = "buyers"
	r, ctx := newRig(t)
	east := r.Cluster("east")
	front, back := must1(east.Node())(t), must1(east.Node())(t)
	var ready []interface{ Ready(context.Context) error }
	for _, n := range []*Node{front, back} {
		ready = append(ready, must1(n.StartProxy(ctx, ProxyOptions{Drain: time.Second}))(t))
	}
	enrolled := func(n *Node, namespace, name string) *Pod {
		p := must1(n.PodIn(namespace, name))(t)
		must(t, p.Enrol(ctx))
		return p
	}
	served := func(namespace, name string) netip.Addr {
		p := enrolled(back, namespace, name)
		serveWeb(ctx, t, p, name)
		return east.webService(namespace, name, nil, p)
	}
	cart := served(Namespace, "cart")
	served(Namespace, "cart-v2")
	served(consumer, "stub")
	till, buyer, stranger := enrolled(front, Namespace, "till"), enrolled(front, consumer, "buyer"), enrolled(front, "strangers", "stranger")
	r.Publish()
	for _, one := range ready {
		must(t, one.Ready(ctx))
	}

	url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(cart, 80))
	var logs []string
	// answered waits until each client has some answers in a row of which all are the word; "" is none.
	answered := func(what string, tillGets, buyerGets, strangerGets string) {
		t.Helper()
		for client, want := range map[*Pod]string{till: tillGets, buyer: buyerGets, stranger: strangerGets} {
			inARow := 0
			for end := time.Now().Add(patience); inARow < 10; {
				body, err := client.Get(ctx, url)
				if inARow++; string(body) != want || (want == "") != (err != nil) {
					inARow = 0
					if time.Now().After(end) {
						for _, log := range logs {
							text, _ := os.ReadFile(log)
							t.Logf("%s:\n%s", log, text)
						}
						t.Fatalf("%s: %s gets %q, %v; want %q", what, client.Name, body, err, want)
					}
				}
			}
		}
	}
	answered("without a route", "cart", "cart", "cart")

	theirs := &world.HTTPRoute{Key: east.key(consumer, "cart"), Parents: []world.RouteParent{atService(Namespace, "cart")}, Rules: []gatewayv1.HTTPRouteRule{{
		BackendRefs: []gatewayv1.HTTPBackendRef{toService(consumer, "stub")},
	}}}
	waypoint := must1(front.StartWaypointIn(ctx, consumer, translate.AutomaticWaypoint))(t)
	logs = append(logs, waypoint.Log)
	r.Put(theirs)
	r.Publish()
	must(t, waypoint.Ready(ctx))
	answered("with a consumer's route", "cart", "stub", "cart")

	must(t, waypoint.Kill())
	answered("without the consumer's waypoint", "cart", "", "cart")

	// The consumer's waypoint is dead: what its clients get now is another one's work.
	owners := must1(back.StartWaypoint(ctx, "owners"))(t)
	logs = append(logs, owners.Log)
	service := *r.state.Services[east.key(Namespace, "cart")]
	service.Labels = map[string]string{world.LabelUseWaypoint: "owners", world.LabelUseWaypointNamespace: SystemNamespace}
	r.Put(&service)
	r.Publish()
	must(t, owners.Ready(ctx))
	answered("with a waypoint of the owner's, and no route of its own", "cart", "stub", "cart")

	r.Put(
		&world.HTTPRoute{Key: east.key(Namespace, "cart"), Parents: []world.RouteParent{atService(Namespace, "cart")}, Rules: []gatewayv1.HTTPRouteRule{{
			BackendRefs: []gatewayv1.HTTPBackendRef{toService(Namespace, "cart-v2")},
		}}},
		// The waypoint is of another namespace than the service, so that it needs leave.
		&world.ReferenceGrant{
			Key: east.key(Namespace, "waypoint"), From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Namespace: Namespace}}, To: []world.GrantTo{{Kind: "Service"}},
		},
	)
	r.Publish()
	answered("with a route of each", "cart-v2", "stub", "cart-v2")

	r.Drop(theirs.Ref())
	r.Publish()
	answered("without the consumer's route", "cart-v2", "cart-v2", "cart-v2")
}
