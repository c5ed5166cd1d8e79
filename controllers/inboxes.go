// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// inboxes are how news of our own reach the controllers that write.
type inboxes struct {
	gateways, plans, scopes, remotes, services, policies, peers, vips, roots, wishes, trust, routes, grpcRoutes, tlsRoutes, tcpRoutes, udpRoutes, sets, backendTLS, waypoints *inbox
}

func newInboxes() inboxes {
	return inboxes{
		gateways: newInbox(), plans: newInbox(), scopes: newInbox(), remotes: newInbox(), services: newInbox(), policies: newInbox(), peers: newInbox(),
		vips: newInbox(), roots: newInbox(), wishes: newInbox(), trust: newInbox(), routes: newInbox(), grpcRoutes: newInbox(), tlsRoutes: newInbox(), tcpRoutes: newInbox(), udpRoutes: newInbox(), sets: newInbox(), backendTLS: newInbox(), waypoints: newInbox(),
	}
}

// translated passes on what a change means for those who write.
func (p *plane) translated(c translate.Change) {
	local := func(k world.Key) bool { return k.Cluster == p.options.World.LocalCluster }
	for ref := range c.Findings {
		if !local(ref.Key) {
			continue
		}
		name := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
		switch ref.Kind {
		case world.KindGateway:
			p.inboxes.gateways.add(name)
		case world.KindListenerSet:
			p.inboxes.sets.add(name)
		case world.KindHTTPRoute:
			p.inboxes.routes.add(name)
		case world.KindGRPCRoute:
			p.inboxes.grpcRoutes.add(name)
		case world.KindTLSRoute:
			p.inboxes.tlsRoutes.add(name)
		case world.KindTCPRoute:
			p.inboxes.tcpRoutes.add(name)
		case world.KindUDPRoute:
			p.inboxes.udpRoutes.add(name)
		case world.KindBackendTLSPolicy:
			p.inboxes.backendTLS.add(name)
		case world.KindServiceScope:
			p.inboxes.scopes.add(name)
		case world.KindRemoteCluster:
			p.inboxes.remotes.add(name)
		case world.KindService:
			p.inboxes.services.add(name)
		case world.KindAuthorizationPolicy:
			p.inboxes.policies.add(name)
		case world.KindPeerAuthentication:
			p.inboxes.peers.add(name)
		}
	}
	p.secrets.Want(c.Objects)
	for ref := range c.Listeners {
		name := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
		if ref.Kind == world.KindListenerSet {
			p.inboxes.sets.add(name)
		} else {
			p.inboxes.gateways.add(name)
		}
	}
	for key := range c.AttachedSets {
		p.inboxes.gateways.add(types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
	}
	for key := range c.GatewayAddresses {
		p.inboxes.gateways.add(types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
	}
	for key := range c.Gateways {
		p.inboxes.plans.add(types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
	}
	for key := range c.Mesh.Gateways {
		p.inboxes.roots.add(types.NamespacedName{Name: key.Namespace})
	}
	for key := range c.Scopes {
		p.inboxes.scopes.add(types.NamespacedName{Name: key.Name})
	}
	for id, count := range c.Remotes {
		p.remotes.metrics.translated(id, count)
		if name := p.wishes.Named(id); name != "" {
			p.inboxes.remotes.addSoon(types.NamespacedName{Name: name}, countsDelay)
		}
	}
	for namespace := range c.Waypoints {
		p.inboxes.waypoints.add(types.NamespacedName{Namespace: namespace, Name: translate.AutomaticWaypoint})
	}
	if len(c.VIPs) > 0 {
		p.inboxes.vips.add(types.NamespacedName{Name: vipsName})
	}
}

// obstructed passes on that something else than before is in a Gateway's way.
func (p *plane) obstructed(gateway types.NamespacedName) {
	p.inboxes.gateways.add(gateway)
	for _, set := range p.pipeline.SetsOf(gateway) {
		p.inboxes.sets.add(set)
	}
}
