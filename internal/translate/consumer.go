// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// consumer is a namespace with routes at another one's Service: its own automatic waypoint does what they say, for its own clients. Nobody else's connections pass it, so it
// needs no leave of the Service's owner.
type consumer struct {
	namespace string
	at        *mesh.GatewayAddress // nil: it does not take connections, yet or ever
}

// waypoint is the Gateway that a consumer's clients pass.
func (x *index) consumerGateway(namespace string) world.Key {
	return world.Key{Cluster: x.config.LocalCluster, Namespace: namespace, Name: AutomaticWaypoint}
}

// consumers are the namespaces whose clients reach a Service of our own cluster by a waypoint of theirs, sorted. There is none where the Service is behind a waypoint, which does
// what their routes say, and none where labels want no waypoint: the Service's, its namespace's, or those of the consumer's namespace.
func (x *index) consumers(s *world.Service, behind bound) []consumer {
	if behind.at != nil || !x.leavesConsumers(s) {
		return nil
	}
	var out []consumer
	for _, namespace := range x.attachments(nameOf(s.Key)).consumers {
		if x.refusesWaypoint(namespace) {
			continue
		}
		k := x.consumerGateway(namespace)
		at, _, _ := x.bind(k, namespace, forServices)
		if at != nil && !x.governs(x.state.Gateways[k]) {
			at = nil // nobody says what others make of the routes
		}
		out = append(out, consumer{namespace, at})
	}
	return out
}

// leavesConsumers says whether labels leave it to consumers what their own requests to a Service pass.
func (x *index) leavesConsumers(s *world.Service) bool {
	if s.Labels[LabelGatewayName] != "" {
		return false
	}
	w, _ := x.wishFor(s.Labels, s.Cluster, s.Namespace)
	return !w.set || w.wanted()
}

// refusesWaypoint says whether a namespace's label wants none.
func (x *index) refusesWaypoint(namespace string) bool {
	return x.namespaceLabels(x.config.LocalCluster, namespace)[world.LabelUseWaypoint] == waypointNone
}

// consumerWaypoints are those that node proxies are told of.
func consumerWaypoints(of []consumer) []mesh.ConsumerWaypoint {
	var out []mesh.ConsumerWaypoint
	for _, c := range of {
		if c.at != nil {
			out = append(out, mesh.ConsumerWaypoint{Namespace: c.namespace, At: *c.at})
		}
	}
	return out
}

// foldConsumers notes which waypoints a service is behind for their own namespaces now. It says whether one of them is told of more or less.
func (x *index) foldConsumers(n serviceName, was, now []consumer) bool {
	if slices.EqualFunc(was, now, func(a, b consumer) bool { return a.namespace == b.namespace }) {
		return false
	}
	for _, c := range was {
		x.consumed.remove(x.consumerGateway(c.namespace), n)
	}
	for _, c := range now {
		x.consumed.add(x.consumerGateway(c.namespace), n)
	}
	return true
}

// consumedBy are the services that a waypoint is in front of for its own namespace's callers, sorted.
func (x *index) consumedBy(waypoint world.Key) []serviceName {
	return slices.SortedFunc(maps.Keys(x.consumed[waypoint]), compareNames)
}

// consumersOf notes the Services at which a namespace has routes, if they are another one's.
func (t *touched) consumersOf(x *index, namespace string) {
	for ref := range x.routesFrom[namespace] {
		parents, _, _ := x.parentsOf(ref)
		for n := range servicesAmong(parents) {
			if n.Namespace != namespace {
				t.names.add(n)
			}
		}
	}
}

// limitConsumers puts the routes of namespaces out of force that come after mesh.MaxConsumers others at one Service, and gives those that are left, sorted. The oldest routes
// count.
func limitConsumers(all []*attachment) []string {
	oldest := map[string]int64{}
	for _, a := range all {
		if c := a.consumer(); a.trouble.reason == "" && c != "" {
			if since, ok := oldest[c]; !ok || a.created < since {
				oldest[c] = a.created
			}
		}
	}
	if len(oldest) == 0 {
		return nil
	}
	out := slices.Sorted(maps.Keys(oldest))
	if len(out) <= mesh.MaxConsumers {
		return out
	}
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(oldest[a], oldest[b]) })
	late := set[string]{}
	for _, namespace := range out[mesh.MaxConsumers:] {
		late.add(namespace)
	}
	for _, a := range all {
		if a.trouble.reason == "" && late.has(a.consumer()) {
			a.ports = nil
			a.trouble.add(ReasonTooMany, "more than %d namespaces have routes at Service %s/%s: those of the namespaces that came first are in force, which %s is not among", mesh.MaxConsumers,
				a.parent.Namespace, a.parent.Name, a.ref.Namespace)
		}
	}
	out = out[:mesh.MaxConsumers]
	slices.Sort(out)
	return out
}

// consumerEnforces says whether the consumer's own waypoint does what routes of a namespace at somebody else's Service say, which has no waypoint that could.
func (x *index) consumerEnforces(n serviceName, namespace string) (bool, string, string) {
	const straight = ": requests go straight to the endpoints"
	if x.refusesWaypoint(namespace) {
		return false, ReasonNoWaypoint, fmt.Sprintf("namespace %s is to have no waypoint, by its label %s", namespace, world.LabelUseWaypoint) + straight
	}
	k := x.consumerGateway(namespace)
	at, reason, message := x.bind(k, namespace, forServices)
	switch {
	case at == nil:
		return false, reason, message + straight
	case !x.governs(x.state.Gateways[k]):
		return false, ReasonNotOurs, fmt.Sprintf("waypoint %s/%s is another controller's, or nobody's", k.Namespace, k.Name) + straight
	}
	return true, ReasonEnforced, fmt.Sprintf("requests of namespace %s to Service %s/%s go through its waypoint %s/%s", namespace, n.Namespace, n.Name, k.Namespace, k.Name)
}
