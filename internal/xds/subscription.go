// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"crypto/rand"
	"maps"
	"slices"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
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

// first takes the first request of a stream for this type. Resources of which the subscriber tells that it holds the
// present version are not sent; names that it holds and that are gone are told as removed.
func (s *subscription) first(r *discovery.DeltaDiscoveryRequest, t *table, now time.Time) error {
	// Nothing named means everything, except for gateways, which are served by name only.
	if len(r.GetResourceNamesSubscribe()) == 0 && len(r.GetResourceNamesUnsubscribe()) == 0 {
		s.wildcard = s.url != gatewayURL
	}
	known := r.GetInitialResourceVersions()
	everything := s.wildcard || slices.Contains(r.GetResourceNamesSubscribe(), "*") && !slices.Contains(r.GetResourceNamesUnsubscribe(), "*")
	if err := checkHeld(len(known), everything); err != nil {
		return err
	}
	if err := checkNames(r); err != nil {
		return err
	}
	if err := s.change(r, t, known, now); err != nil {
		return err
	}
	if s.wildcard {
		s.markAll(t.entries, known, now)
	} else {
		s.markNode(t, known, now)
	}
	for name := range known {
		e := t.entries[name]
		if e == nil {
			s.words += weight(name)
			s.loose += weight(name)
			s.missing(name, t, now)
		}
		if s.wildcard {
			continue
		}
		s.held[name] = struct{}{}
		if e != nil { // it may have changed meanwhile; and a service is held only by who asked for it
			s.markUnknown(e, known, now)
			s.follow(e, t, known, now)
		}
	}
	return nil
}

// more takes a later request of the stream.
func (s *subscription) more(r *discovery.DeltaDiscoveryRequest, t *table, now time.Time) error {
	if err := checkNames(r); err != nil {
		return err
	}
	if len(r.GetResourceNamesSubscribe())+len(r.GetResourceNamesUnsubscribe()) > 0 { // most only acknowledge
		s.unpack()
	}
	was := s.wildcard
	if err := s.change(r, t, nil, now); err != nil {
		return err
	}
	switch {
	case s.wildcard && !was:
		s.follows, s.held = map[string]struct{}{}, map[string]struct{}{}
		s.markAll(t.entries, nil, now)
	case was && !s.wildcard:
		s.narrow(t, now)
	}
	return nil
}

// narrow is what becomes of a subscription to everything when only what was asked for by name is left. What came with that, and was not named itself, is told once more:
// a subscriber may have dropped it with the rest.
func (s *subscription) narrow(t *table, now time.Time) {
	s.walked += len(s.asked)
	for name := range s.asked {
		for _, e := range t.find(nil, name) {
			s.follow(e, t, nil, now)
		}
	}
	s.markNode(t, nil, now)
	s.forget(t)
}

// change takes the names that a request adds and drops.
func (s *subscription) change(r *discovery.DeltaDiscoveryRequest, t *table, known map[string]string, now time.Time) error {
	if slices.Contains(r.GetResourceNamesSubscribe(), "*") {
		s.wildcard = s.url != gatewayURL
	}
	if slices.Contains(r.GetResourceNamesUnsubscribe(), "*") {
		s.wildcard = false
	}
	for _, name := range r.GetResourceNamesSubscribe() {
		if name == "*" {
			continue
		}
		if err := s.ask(name); err != nil {
			return err
		}
		found := t.find(nil, name)
		if len(found) == 0 {
			s.missing(name, t, now)
		} else if e := t.entries[name]; e == nil || !sameVersion(known, e) {
			s.mark(name, now)
		}
		for _, e := range found {
			s.follow(e, t, known, now)
		}
	}
	dropped := false
	for _, name := range r.GetResourceNamesUnsubscribe() {
		if name == "*" {
			continue
		}
		switch {
		case !has(s.asked, name):
		case s.wildcard && (has(s.pending, name) || has(s.unsure, name)): // it may have been there, and that it is gone is told to who wants everything
			s.loose += weight(name)
		default:
			s.words -= weight(name)
			if t.entries[name] == nil { // it waits to hear of nothing any more
				delete(s.pending, name)
				delete(s.unsure, name)
			}
		}
		delete(s.asked, name)
		delete(s.held, name)
		for _, e := range t.find(nil, name) { // it may be an alias of what is held
			if !s.names(e) {
				delete(s.held, e.name)
				delete(s.follows, e.name)
			}
		}
		dropped = true
	}
	if dropped && !s.wildcard {
		s.forget(t)
	}
	return nil
}

// ask notes that a name is wanted.
func (s *subscription) ask(name string) error {
	if has(s.asked, name) {
		return nil
	}
	// Of a wildcard's names those that were dropped again are pending, too, until the next response, which a subscriber that acknowledges nothing
	// never gets.
	if s.fresh++; len(s.asked) >= maxSubscribedNames || s.fresh > maxSubscribedNames {
		return errTooManyNames
	}
	s.asked[name] = struct{}{}
	s.words += weight(name)
	s.named = true
	return nil
}

// forget drops what is neither asked for nor belongs to something that is, as after a service was dropped whose workloads are held.
func (s *subscription) forget(t *table) {
	s.walked += len(s.held) + len(s.follows) + len(s.pending)
	for name := range s.held {
		if e := t.entries[name]; e != nil && e.kind != kindService && !s.covers(e) {
			delete(s.held, name)
		}
	}
	// A service that is gone is followed again when it is there again, if it still is asked for.
	maps.DeleteFunc(s.follows, func(name string, _ struct{}) bool { return t.entries[name] == nil })
	for name := range s.pending {
		if e := t.entries[name]; e != nil && !s.wants(e) {
			delete(s.pending, name)
		}
	}
	if len(s.pending) == 0 {
		s.pending = map[string]struct{}{} // see collect
	}
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
