// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"crypto/rand"
	"slices"
	"time"
)

const (
	// maxSubscribedNames is how many names one subscriber may ask for by name, per type. A node proxy that asks on demand
	// asks for what its pods talk to; beyond this a wildcard is cheaper for both.
	maxSubscribedNames = 1 << 16
	// maxHeldNames is how many names with versions an on-demand subscriber may say that it holds, per type: what it asked for, and the workloads of
	// services that it follows. 100,000 endpoints are what a mesh is built for.
	maxHeldNames = 4 * maxSubscribedNames
	// maxKnownNames is the same for a subscriber of everything: more than a mesh of the size for which we are made has (100,000 endpoints, 10,000
	// services), ten times over.
	maxKnownNames = 1 << 20
	// maxResponseBytes is the size of resources after which a response ends and the rest waits for its acknowledgement.
	// A client is ready after its first response, so the first one holds everything in every world but the largest
	// (about 400 000 workloads); ztunnel accepts messages of up to 200 MiB.
	maxResponseBytes = 128 << 20
	// largePending is how many names are pending in a map that is worth another one: with 64, walking the empty rest takes less than making it.
	largePending = 64
)

// subscription is what one subscriber wants of one type, what it holds and what it has still to be told.
// It knows no stream: requests go in, responses come out. It is owned by its subscriber and guarded by subscriber.mu.
type subscription struct {
	url      string
	wildcard bool
	node     string // on demand: workloads of this node are wanted without being asked for

	asked   map[string]struct{} // names, as the subscriber wrote them
	follows map[string]struct{} // on demand: services whose workloads are wanted too
	held    map[string]struct{} // not for a wildcard: names of resources that were sent

	pending map[string]struct{} // names of which the subscriber has to be told; bounded by the table, by asked and by what the subscriber holds
	batch   *batch              // instead of pending: all that is to be told; nil if there is none
	unsure  map[string]struct{} // names that are not there, of which the subscriber is not told that while that is in doubt; bounded as pending
	partial bool                // the last response was not all there is
	since   time.Time           // when pending became non-empty
	fresh   int                 // names asked for since the last response that had not been asked for before
	named   bool                // names were asked for: what goes by one of them may be pending by another, too
	words   int                 // bytes that are kept of what the subscriber wrote, see words
	loose   int                 // of these, those that are kept only until they are told: what was dropped and is pending, and what was said to be held and is not there
	counted int                 // of words, what the subscriber's account says, see keep
	walked  int                 // names that were looked at for requests, since somebody asked
	owed    bool                // a response is due even if it says nothing
	nonce   string              // of the response that is not acknowledged yet, or ""; nobody can guess it, so that who acknowledges has read
	sent    []*entry            // what that response carried
	sentAt  time.Time           // when that response was handed to the transport
	unread  int64               // bytes of that response
}

func newSubscription(url, node string) *subscription {
	return &subscription{
		url: url, node: node, owed: true,
		asked:   map[string]struct{}{},
		follows: map[string]struct{}{},
		held:    map[string]struct{}{},
		pending: map[string]struct{}{},
		unsure:  map[string]struct{}{},
	}
}

// mark notes that the subscriber has to be told about a name.
func (s *subscription) mark(name string, now time.Time) {
	s.unpack()
	if len(s.pending) == 0 {
		s.since = now
	}
	s.pending[name] = struct{}{}
}

// changed notes a change if the subscriber wants to hear of it. before or after may be nil, not both.
func (s *subscription) changed(before, after *entry, now time.Time) {
	if s.wants(before) || s.wants(after) {
		e := after
		if e == nil {
			e = before
		}
		delete(s.unsure, e.name)
		s.mark(e.name, now)
	}
}

// wants says whether the subscription covers an entry.
func (s *subscription) wants(e *entry) bool {
	if e == nil {
		return false
	}
	return s.wildcard || has(s.held, e.name) || s.covers(e)
}

// covers says whether an entry was asked for, or comes with something that was.
func (s *subscription) covers(e *entry) bool {
	return s.names(e) || s.node != "" && e.node == s.node ||
		slices.ContainsFunc(e.services, func(name string) bool { return has(s.follows, name) })
}

// markNode marks the workloads of the subscriber's own node.
func (s *subscription) markNode(t *table, known map[string]string, now time.Time) {
	s.walked += len(t.nodes[s.node])
	for name := range t.nodes[s.node] {
		s.markUnknown(t.entries[name], known, now)
	}
}

func (s *subscription) markAll(entries map[string]*entry, known map[string]string, now time.Time) {
	s.walked += len(entries)
	for _, e := range entries {
		s.markUnknown(e, known, now)
	}
}

func (s *subscription) markUnknown(e *entry, known map[string]string, now time.Time) {
	if !sameVersion(known, e) {
		s.mark(e.name, now)
	}
}

// follow makes the workloads of a service wanted too, once.
func (s *subscription) follow(e *entry, t *table, known map[string]string, now time.Time) {
	if s.wildcard || e.kind != kindService || has(s.follows, e.name) {
		return
	}
	s.follows[e.name] = struct{}{}
	s.walked += len(t.members[e.name])
	for name := range t.members[e.name] {
		s.markUnknown(t.entries[name], known, now)
	}
}

// names says whether the entry was asked for by its name or by one of its aliases.
func (s *subscription) names(e *entry) bool {
	return has(s.asked, e.name) ||
		slices.ContainsFunc(e.aliases, func(a string) bool { return has(s.asked, a) })
}

// acknowledge takes the nonce of a request. It says whether the nonce answers the response in flight.
func (s *subscription) acknowledge(nonce string) bool {
	if nonce == "" || nonce != s.nonce {
		return false
	}
	s.nonce, s.sent, s.unread = "", nil, 0
	return true
}

// due says whether there is something to send and nothing in flight.
func (s *subscription) due() bool { return s.nonce == "" && (s.owed || s.owing() > 0) }

// next makes the response that is due, or nil. sees says whether the subscriber may know of an entry; one that it
// may not know of does not exist for it.
func (s *subscription) next(t *table, sees func(*entry) bool, now time.Time) *response {
	if !s.due() {
		return nil
	}
	out, walked := &response{url: s.url}, s.walked
	if b := s.batch; b != nil {
		s.batch, out.entries, out.removed = nil, b.entries, b.removed
	} else {
		s.collect(out, t, sees, now)
	}
	s.owed, s.fresh, s.walked = false, 0, walked // what was looked at to tell it, no request has asked for
	if len(s.pending)+len(s.unsure) == 0 {
		s.words, s.loose = s.words-s.loose, 0
	}
	s.partial = t.doubt != nil || len(s.pending) > 0
	out.partial, out.more = s.partial, len(s.pending) > 0
	s.nonce = rand.Text()
	s.sent, s.unread = out.entries, out.size()
	out.nonce = s.nonce
	return out
}

// collect puts into a response what is pending, as much of it as fits.
func (s *subscription) collect(out *response, t *table, sees func(*entry) bool, now time.Time) {
	out.entries = make([]*entry, 0, len(s.pending))
	var told map[string]struct{} // nil: what is pending is so once
	if !s.wildcard || s.named {
		told = map[string]struct{}{}
	}
	var found []*entry
	size := 0
	tell := func(e *entry) {
		if told != nil {
			if has(told, e.name) {
				return
			}
			told[e.name] = struct{}{}
		}
		if !s.wildcard {
			s.held[e.name] = struct{}{}
			if s.names(e) {
				s.follow(e, t, nil, now)
			}
		}
		out.entries = append(out.entries, e)
		size += e.wire.Len()
	}
	// Following a service makes its workloads pending while it is told: hence the outer loop.
	for len(s.pending) > 0 && size < maxResponseBytes {
		for _, name := range sorted(s.pending) {
			if size >= maxResponseBytes {
				break
			}
			delete(s.pending, name)
			found = slices.DeleteFunc(t.find(found[:0], name), func(e *entry) bool { return !sees(e) })
			for _, e := range found {
				tell(e)
			}
			if len(found) == 0 {
				delete(s.held, name)
				delete(s.follows, name)
				out.removed = append(out.removed, name)
				size += len(name)
			}
		}
	}
	if len(s.pending) == 0 && len(out.entries)+len(out.removed) > largePending {
		s.pending = map[string]struct{}{} // an emptied one would stay as large as it was, for as long as the stream lasts, and be walked for each response
	}
}

// sameVersion says whether the subscriber told that it holds this very content.
func sameVersion(known map[string]string, e *entry) bool {
	v := e.told()
	return v != "" && known[e.name] == v
}

func has(set map[string]struct{}, name string) bool {
	_, ok := set[name]
	return ok
}

func sorted(set map[string]struct{}) []string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
