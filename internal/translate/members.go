// SPDX-License-Identifier: Apache-2.0

package translate

import "github.com/isthmus-mesh/isthmus/internal/world"

// members are the pods behind one service in one cluster, added up so that a change of one pod costs no walk over the others.
type members struct {
	size   int              // slices, and the endpoints in them, be they pods or not
	pods   map[string]named // by name, those that slices name
	places map[place]tally
}

// place is what the pods of a tally have in common.
type place struct {
	account string
	network string // that their labels name; see networkFor
}

// member is what one pod adds.
type member struct {
	place
	healthy bool
}

// named is a pod that slices name.
type named struct {
	member
	counts  bool
	entries int // of slices that name it
}

// tally counts pods.
type tally struct{ all, healthy int }

// sizeOf is what a slice adds to a size.
func sizeOf(s *world.EndpointSlice) int {
	if s == nil {
		return 0
	}
	return 1 + len(s.Endpoints)
}

func newMembers() *members {
	return &members{pods: map[string]named{}, places: map[place]tally{}}
}

// memberOf says what a pod adds to the services that it is behind, if it counts at all: pods that no tunnel reaches do not,
// because other networks have no other way to them.
func (x *index) memberOf(p *world.Pod) (member, bool) {
	if p == nil || !p.Captured || p.HostNetwork || len(p.Addresses) == 0 {
		return member{}, false
	}
	return member{place{p.ServiceAccount, x.networkClaim(p)}, healthy(p)}, true
}

// healthy says whether new connections may go to a pod.
func healthy(p *world.Pod) bool { return p.Ready && !p.Deleting }

// set says what a pod is now that some more entries name, or fewer; it counts for nothing once none does. It says whether there are other service accounts or networks now; else
// only counts differ.
func (m *members) set(name string, now member, counts bool, more int) (places bool) {
	was := m.pods[name]
	before := len(m.places)
	entries := was.entries + more
	if counts = counts && entries > 0; counts {
		m.add(now, 1)
	}
	if entries > 0 {
		m.pods[name] = named{now, counts, entries}
	} else {
		delete(m.pods, name)
	}
	grew := len(m.places) != before
	before = len(m.places)
	if was.counts {
		m.add(was.member, -1)
	}
	return grew || len(m.places) != before
}

func (m *members) add(x member, n int) {
	t := m.places[x.place]
	t.all += n
	if x.healthy {
		t.healthy += n
	}
	if t.all == 0 {
		delete(m.places, x.place)
	} else {
		m.places[x.place] = t
	}
}
