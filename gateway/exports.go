// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// config is one generation of the gateway's configuration, indexed for lookups. It is never changed.
type config struct {
	gateway *mesh.Gateway // with what left it, see partings
	told    *mesh.Gateway // as it was told
	// late are services that left the waypoint so long ago that no new stream is for them.
	late map[mesh.ServiceKey]struct{}
	// lateToOthers are services that have been there for callers of the waypoint's own namespace alone for so long that no new stream of others is for them.
	lateToOthers map[mesh.ServiceKey]struct{}
	// strayed says whether a workload, by its UID, was behind the waypoint until lately; nil: none was.
	strayed func(uid string) bool
	network string
	own     string // trust domain
	// canonical gives the trust domain that one is another name of, or itself.
	canonical func(trustDomain string) string
	// exports, or what a waypoint stands in front of, by hostname. Two namespaces may define one hostname, then neither is served: who was meant cannot be told.
	byHostname map[string]mesh.ServiceKey
	exported   map[mesh.ServiceKey]struct{}
	domains    map[string]struct{}
	policies   policies
	// laws counts the configurations that differ in what streams and requests are judged by: two with the same number judge alike.
	laws   uint64
	tables sync.Map // tableKey → *gatewayhttp.Table, of a waypoint
}

// newConfig indexes g. Without trust domains in g, only our own is allowed; without a network, network is. before is the configuration that it comes after, or nil.
func newConfig(g *mesh.Gateway, network, own string, before *config) *config {
	var policiesBefore policies
	if before != nil {
		policiesBefore = before.policies
	}
	c := &config{
		gateway:    g,
		told:       g,
		network:    network,
		own:        own,
		canonical:  func(trustDomain string) string { return trustDomain },
		byHostname: make(map[string]mesh.ServiceKey, len(g.Exports)),
		exported:   make(map[mesh.ServiceKey]struct{}, len(g.Exports)),
		domains:    map[string]struct{}{},
		policies:   newPolicies(g, policiesBefore),
	}
	if g.Network != "" {
		c.network = g.Network
	}
	served := g.Exports
	if c.isWaypoint() {
		served = g.Fronts
	}
	for _, key := range served {
		c.exported[key] = struct{}{}
		hostname := strings.ToLower(key.Hostname)
		if other, clash := c.byHostname[hostname]; clash && other != key {
			key = mesh.ServiceKey{}
		}
		c.byHostname[hostname] = key
	}
	for _, domain := range g.TrustDomains {
		c.domains[domain] = struct{}{}
	}
	if len(g.TrustDomains) == 0 {
		c.domains[own] = struct{}{}
	}
	switch {
	case before == nil:
		c.laws = 1
	case c.judgesAs(before):
		c.laws = before.laws
	default:
		c.laws = before.laws + 1
	}
	return c
}

// judgesAs says whether nobody who was let in by before is to be judged anew.
func (c *config) judgesAs(before *config) bool {
	g, was := c.gateway, before.gateway
	return c.policies.ofAll == before.policies.ofAll && maps.Equal(c.policies.of, before.policies.of) && maps.Equal(c.domains, before.domains) &&
		c.network == before.network && g.Namespace == was.Namespace && g.Service == was.Service && maps.Equal(c.exported, before.exported) && slices.Equal(g.Consumed, was.Consumed)
}

// target is what a CONNECT asked for, understood.
type target struct {
	service *mesh.Service // nil: nothing that is exported
	port    uint16
	plain   bool                 // endpoints are dialled at the port itself, without HBONE, for a client without an identity
	named   mesh.ServiceKey      // of a plain one: the service, also if the mesh does not know it, as it does not those for UDP alone
	entry   uint16               // of a plain one: the port of the Gateway by which it came
	tls     *backendtls.Settings // of a plain one: how TLS is spoken to endpoints; nil: it is not
	vip     netip.Addr           // in our network: the one asked for, or else the service's first; zero if it has none
	// draw is the stream's chance, by which it passes one of several waypoints.
	draw uint64
	// carries is what is inside the stream: of one to a waypoint, what is expected when it comes, and then what was found. Streams to others are opaque.
	carries contents
	// far says that a stream to a waypoint came from another network, whose side has chosen this one: it is for endpoints here.
	far bool
	// workload is set instead of service: one that is behind the waypoint by itself. vip is its address then.
	workload *mesh.Workload
}

// resolve decides what the peer asks for and whether there is such a thing for it. Who gets a refusal with 503 may still be told instead that
// it may not: for that, what is known of the target comes with it.
func (c *config) resolve(v *directory.View, peer mesh.Identity, authority string) (target, *Refusal) {
	asked, err := hbone.ParseAuthority(authority)
	if err != nil {
		return target{}, &Refusal{http.StatusBadRequest, ReasonBadAuthority, err}
	}
	// Who may ask is settled before what is there: strangers learn nothing about exports.
	if _, ok := c.domains[peer.TrustDomain]; !ok {
		return target{}, &Refusal{http.StatusUnauthorized, ReasonTrustDomain, fmt.Errorf("peer %s", peer)}
	}
	namespace := c.namespaceOf(peer)
	service := c.service(v, asked, namespace)
	if service == nil {
		t := target{port: asked.Port, vip: asked.IP}
		if t.workload = c.workloadBehind(v, asked.IP); t.workload != nil {
			return t, nil
		}
		if c.isWaypoint() {
			return t, &Refusal{http.StatusServiceUnavailable, ReasonNotBehind, nil}
		}
		return t, &Refusal{http.StatusServiceUnavailable, ReasonNotExported, nil}
	}
	t := target{service: service, port: asked.Port, vip: c.vip(service, asked.IP)}
	if _, late := c.lateToOthers[service.Key()]; c.foreign(service.Key(), namespace) || late && namespace != c.gateway.Namespace {
		return target{}, &Refusal{http.StatusUnauthorized, ReasonNotConsumer, fmt.Errorf("peer %s, service %s, waypoint of namespace %s", peer, service.Key(), c.gateway.Namespace)}
	}
	if service.NamespaceOnly && namespace != service.Namespace {
		return target{}, &Refusal{http.StatusUnauthorized, ReasonNamespace, fmt.Errorf("peer %s, service %s", peer, service.Key())}
	}
	if _, ok := service.Port(asked.Port); !ok {
		return t, &Refusal{http.StatusServiceUnavailable, ReasonUnknownPort, fmt.Errorf("service %s has no port %d", service.Key(), asked.Port)}
	}
	if c.isWaypoint() {
		t.carries = c.expects(t, namespace)
	}
	return t, nil
}

// key names what is asked for, to count streams to it by: a service, or else a workload, whose UID is no hostname.
func (t target) key() mesh.ServiceKey {
	switch {
	case t.service != nil:
		return t.service.Key()
	case t.workload != nil:
		return mesh.ServiceKey{Namespace: t.workload.Namespace, Hostname: t.workload.UID}
	}
	return mesh.ServiceKey{}
}

// vip is where in our network a service is that was asked for by an address, or not.
func (c *config) vip(service *mesh.Service, asked netip.Addr) netip.Addr {
	if asked.IsValid() {
		return asked
	}
	for _, a := range service.Addresses {
		if a.Network == c.network {
			return a.Addr
		}
	}
	return netip.Addr{}
}

// service finds an exported service by its hostname, or by a VIP that it has in the gateway's own network, as a client of the
// namespace sees it.
func (c *config) service(v *directory.View, asked hbone.Authority, namespace string) *mesh.Service {
	if !asked.IP.IsValid() {
		key, ok := c.byHostname[strings.ToLower(asked.Hostname)]
		if _, late := c.late[key]; !ok || late {
			return nil
		}
		return v.Service(key)
	}
	service := v.ServiceAt(c.network, asked.IP, namespace)
	if service == nil {
		return nil
	}
	_, ok := c.exported[service.Key()]
	if _, late := c.late[service.Key()]; !ok || late {
		return nil
	}
	return service
}

// candidate is an endpoint that could take a stream.
type candidate struct {
	uid  string
	name string // namespace/name, for the log
	dial netip.AddrPort
	// capacity is its share among the others, at least 1.
	capacity uint32
	// rank says how near it is, as far as the service cares: those with the highest come first.
	rank int
	// confined is what is told to its proxy that the peer was let in for; "": it would not understand.
	confined string
}

// candidates are the endpoints of t in the gateway's own network that speak HBONE, or those of the waypoint that stands
// before it: the waypoint is where its policy is applied, so it is not walked around. Of several each stream draws one, of those that have endpoints here. A workload that stands for
// another network is never among them: a gateway does not forward to a gateway.
func (c *config) candidates(v *directory.View, t target, own *mesh.Workload) []candidate {
	if !t.service.Fronted() {
		return c.endpoints(v, t, t.service, t.port, mesh.HBONEPort, own, nil)
	}
	if t.plain {
		return nil // a waypoint takes no connection without an identity
	}
	type share struct {
		of     []candidate
		weight uint64
	}
	var here []share
	total, mayBeBefore := uint64(0), c.mayBeBefore(v, t.service, own)
	for _, w := range t.service.Fronts() {
		front := c.waypoint(v, &w.At)
		if front == nil {
			continue
		}
		if of := c.endpoints(v, t, front, 0, cmp.Or(w.At.Port, mesh.HBONEPort), own, mayBeBefore); len(of) > 0 {
			here = append(here, share{of, uint64(w.Weight)})
			total += uint64(w.Weight)
		}
	}
	if total == 0 {
		return nil
	}
	at := t.draw % total
	for _, s := range here {
		if at < s.weight {
			return s.of
		}
		at -= s.weight
	}
	return nil
}

// endpoints are those of a service, the target's own or a waypoint's, that can take a stream for t at a port of the service (0: whatever ports they have), which are dialled at dialPort. Those
// for which only is false are left out, if it is not nil.
func (c *config) endpoints(v *directory.View, t target, service *mesh.Service, port, dialPort uint16, own *mesh.Workload, only func(*mesh.Workload) bool) []candidate {
	endpoints := v.Endpoints(service.Key())
	out := make([]candidate, 0, len(endpoints))
	for _, w := range endpoints {
		// A waypoint's pods end tunnels themselves.
		if w.Network != c.network || w.NetworkGateway != nil || w.Tunnel != mesh.TunnelHBONE && !t.plain && service == t.service {
			continue
		}
		if w.Unhealthy && !service.Balance.AllowUnhealthy {
			continue
		}
		if only != nil && !only(w) {
			continue
		}
		if port != 0 {
			at, ok := directory.EndpointPort(service, w, port)
			if !ok {
				continue
			}
			if t.plain {
				dialPort = at.Target
			}
		}
		addr, ok := directory.Address(w, service.Families, false)
		if !ok {
			continue
		}
		found := candidate{
			uid: w.UID, name: w.Namespace + "/" + w.Name, dial: netip.AddrPortFrom(addr, dialPort), capacity: max(w.Capacity, 1), rank: directory.Rank(service, c.network, own, w),
		}
		if !t.plain && w.Confines && dialPort == mesh.HBONEPort {
			found.confined = reach.Confinement(t.service.Key(), t.port)
		}
		out = append(out, found)
	}
	return slices.Clip(out)
}

// mayBeBefore says which waypoints' pods may be before a service: those of the gateway's own cluster, if that is known, and of clusters that have endpoints of it in the gateway's network. Clusters of one network
// may share a waypoint's Service and not what is behind it. What is inside a stream names the service alone, so that a waypoint of a cluster that keeps its own service of that name to itself would let it in.
func (c *config) mayBeBefore(v *directory.View, service *mesh.Service, own *mesh.Workload) func(*mesh.Workload) bool {
	var clusters map[string]struct{} // made when it is first asked for, which it seldom is
	return func(waypoint *mesh.Workload) bool {
		if own != nil && waypoint.Cluster == own.Cluster {
			return true
		}
		if clusters == nil {
			clusters = map[string]struct{}{}
			for _, w := range v.Endpoints(service.Key()) {
				if w.Network == c.network && w.NetworkGateway == nil {
					clusters[w.Cluster] = struct{}{}
				}
			}
		}
		_, there := clusters[waypoint.Cluster]
		return there
	}
}

func (c *config) waypoint(v *directory.View, at *mesh.GatewayAddress) *mesh.Service {
	if at.Hostname.Hostname != "" {
		return v.Service(at.Hostname)
	}
	return v.ServiceAt(at.Addr.Network, at.Addr.Addr, "")
}

// foreign says whether a service is behind the waypoint for callers of the waypoint's own namespace only, and who asks is of another one.
func (c *config) foreign(key mesh.ServiceKey, namespace string) bool {
	if namespace == c.gateway.Namespace {
		return false
	}
	_, consumed := slices.BinarySearchFunc(c.gateway.Consumed, key, mesh.CompareServiceKeys)
	return consumed
}

// left says whether a service is not behind the waypoint any more for callers of a namespace, although it still is served.
func (c *config) left(key mesh.ServiceKey, namespace string) bool {
	if _, behind := slices.BinarySearchFunc(c.told.Fronts, key, mesh.CompareServiceKeys); !behind {
		return true
	}
	_, consumed := slices.BinarySearchFunc(c.told.Consumed, key, mesh.CompareServiceKeys)
	return consumed && namespace != c.told.Namespace
}

// routes names all routes that requests may be taken by.
func (c *config) routes(yield func(mesh.RouteKey) bool) {
	lists := make([][]*mesh.HTTPRoute, 0, len(c.gateway.Listeners)+len(c.gateway.ServiceRoutes))
	for i := range c.gateway.Listeners {
		lists = append(lists, c.gateway.Listeners[i].Routes)
	}
	for i := range c.gateway.ServiceRoutes {
		lists = append(lists, c.gateway.ServiceRoutes[i].Routes)
	}
	seen := map[*mesh.HTTPRoute]struct{}{} // a route may be at hundreds of listeners
	for _, list := range lists {
		for _, route := range list {
			if _, told := seen[route]; told {
				continue
			}
			seen[route] = struct{}{}
			if !yield(route.Key()) {
				return
			}
		}
	}
	for key := range c.exported {
		if c.isWaypoint() && !yield(gatewayhttp.Unrouted(key.Namespace)) {
			return
		}
	}
}
