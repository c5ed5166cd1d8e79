// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// maxWaypointLoad is how much one waypoint is told of routes at Services, in bytes on the wire: a third of what it takes in one answer, of which policies are a part as well. What is more would
	// be refused as a whole, and the waypoint hear of no later change.
	maxWaypointLoad = 64 << 20
	// placeLoad is what a route weighs at least at each port of a Service besides itself: no more than 32768 places fit, half of what the wire takes in one list.
	placeLoad = 2 << 10
)

// left names a route at a waypoint's Service that the waypoint is not told of, as there are too many.
type left struct {
	waypoint world.Key
	route    *attachment
}

// carriedBy are the routes at Services that a waypoint of our own cluster takes in, in no particular order.
func (x *index) carriedBy(waypoint world.Key, each func(n serviceName, a *attachment)) {
	for n := range x.takenIn[waypoint] {
		for _, a := range x.attachments(n).all {
			if a.trouble.reason == "" {
				each(n, a)
			}
		}
	}
	for n := range x.consumed[waypoint] {
		if x.takenIn[waypoint].has(n) {
			continue // it is to be in front of it for everybody
		}
		for _, a := range x.attachments(n).all {
			if a.trouble.reason == "" && a.consumer() == waypoint.Namespace {
				each(n, a)
			}
		}
	}
}

// lighten finds what our waypoints are not told of.
func (x *index) lighten() {
	was := x.leftOut
	x.leftOut = map[left]struct{}{}
	defer func() {
		if !maps.Equal(was, x.leftOut) {
			x.leftSeen++
		}
	}()
	waypoints := set[world.Key]{}
	for k := range x.takenIn {
		waypoints.add(k)
	}
	for k := range x.consumed {
		waypoints.add(k)
	}
	for k := range waypoints {
		if g := x.state.Gateways[k]; g != nil && x.governs(g) {
			x.lightenOne(k)
		}
	}
}

// lightenOne does so for one. Routes of the Services' own namespaces come before those of others. If they are too many, each namespace has a share, and in it the oldest come first.
func (x *index) lightenOne(waypoint world.Key) {
	total := 0
	x.carriedBy(waypoint, func(_ serviceName, a *attachment) { total += x.load(a) })
	if total <= x.maxLoad {
		return
	}
	owners, consumers := map[string][]*attachment{}, map[string][]*attachment{}
	x.carriedBy(waypoint, func(_ serviceName, a *attachment) {
		of := owners
		if a.consumer() != "" {
			of = consumers
		}
		of[a.ref.Namespace] = append(of[a.ref.Namespace], a)
	})
	room := x.maxLoad
	for _, of := range []map[string][]*attachment{owners, consumers} {
		wanted := make([]int, 0, len(of))
		for _, all := range of {
			sum := 0
			for _, a := range all {
				sum += x.load(a)
			}
			wanted = append(wanted, sum)
		}
		share := fairShare(wanted, room)
		for _, namespace := range slices.Sorted(maps.Keys(of)) {
			all, mine := of[namespace], 0
			slices.SortFunc(all, compareAttachments)
			for _, a := range all {
				load := x.load(a)
				if share > 0 && mine+load > share || load > room {
					x.leftOut[left{waypoint, a}] = struct{}{}
					continue
				}
				mine, room = mine+load, room-load
			}
		}
	}
}

// load is what a route weighs at a Service.
func (x *index) load(a *attachment) int {
	c := x.compileAt(a)
	return c.weight() + max(placeLoad, c.route.AtListener(""))*len(a.ports)
}

// weight is what the route takes on the wire.
func (c *compiledRoute) weight() int {
	if c.size == 0 {
		c.size = c.route.Size()
	}
	return c.size
}

// compareAttachments orders routes at Services: the oldest first, then by name, then by what they say of the Service.
func compareAttachments(a, b *attachment) int {
	return cmp.Or(cmp.Compare(a.created, b.created), a.ref.Compare(b.ref), strings.Compare(a.parent.Namespace, b.parent.Namespace), strings.Compare(a.parent.Name, b.parent.Name),
		strings.Compare(a.parent.Section, b.parent.Section), cmp.Compare(a.parent.Port, b.parent.Port))
}

// overload says why the waypoint that would do what a route at a Service says is not told of it.
func (x *index) overload(a *attachment) (out trouble) {
	if len(x.leftOut) == 0 {
		return trouble{}
	}
	n := serviceName{a.parent.Namespace, a.parent.Name}
	for _, waypoint := range []world.Key{x.takingIn(n), x.consumerGateway(a.ref.Namespace)} {
		if _, is := x.leftOut[left{waypoint, a}]; is && out.reason == "" {
			out.add(ReasonTooMany, "waypoint %s/%s is told of %d MiB of routes at Services, with %d KiB or more for each port that one is at: those of the Services' own namespaces come first, and the oldest of each namespace",
				waypoint.Namespace, waypoint.Name, maxWaypointLoad>>20, placeLoad>>10)
		}
	}
	return out
}

// takingIn is the waypoint that takes a Service in; zero: none does.
func (x *index) takingIn(n serviceName) world.Key {
	if a := x.answerOf(n); a != nil {
		return a.behind.gateway
	}
	return world.Key{}
}
