// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"time"
)

// batch is what one Update has changed of a type, in the order in which it is told. It is made once, if there is any, for all who want to hear of everything and are owed nothing else, which is
// nearly everybody nearly always: that each collects, sorts and looks up the same names costs more than to send them. It is not written to once it is made.
type batch struct {
	entries []*entry
	removed []string
}

// newBatch makes one of names that have changed, some maybe twice, as they are now; nil if it is too much for one small response.
func newBatch(names []string, t *table, most int) *batch {
	if len(names) >= 2*most { // a name has changed twice at most: it went, and is there again
		return nil
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) >= most {
		return nil
	}
	b := &batch{entries: make([]*entry, 0, len(names))}
	for _, name := range names {
		before := len(b.entries)
		if b.entries = t.find(b.entries, name); len(b.entries) == before {
			b.removed = append(b.removed, name)
		}
	}
	if (&response{entries: b.entries, removed: b.removed}).size() >= maxResponseBytes {
		return nil
	}
	return b
}

// takes says whether all that the subscription is owed from now on is the batch, which it notes. The batch is asked for only if it can be that.
func (s *subscription) takes(made func() *batch, now time.Time) bool {
	if !s.wildcard || s.named || s.batch != nil || len(s.pending)+len(s.unsure) > 0 {
		return false
	}
	b := made()
	if b == nil {
		return false
	}
	s.batch, s.since = b, now
	return true
}

// unpack makes the names of the batch pending like any others: something else is to be told with them, or not all of them.
func (s *subscription) unpack() {
	b := s.batch
	if b == nil {
		return
	}
	s.batch = nil
	for _, e := range b.entries {
		s.pending[e.name] = struct{}{}
	}
	for _, name := range b.removed {
		s.pending[name] = struct{}{}
	}
}

// owing is of how many names the subscriber has to be told.
func (s *subscription) owing() int {
	if s.batch != nil {
		return len(s.batch.entries) + len(s.batch.removed)
	}
	return len(s.pending)
}
