// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"maps"
	"slices"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

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
