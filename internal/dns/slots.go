// SPDX-License-Identifier: Apache-2.0

package dns

// Slots bounds the queries that wait for servers upstream. The zero value and nil have none.
type Slots struct {
	free   chan struct{}
	full   Reason
	within *Slots
}

// NewSlots has n slots. Each is also one of within, if that is given. full is why a query is refused when there are no more.
func NewSlots(n int, full Reason, within *Slots) *Slots {
	return &Slots{free: make(chan struct{}, n), full: full, within: within}
}

// take gives "" if it took a slot, and otherwise why there is none. It never waits.
func (s *Slots) take() Reason {
	if s == nil {
		return ReasonPodBusy
	}
	select {
	case s.free <- struct{}{}:
	default:
		return s.full
	}
	if s.within != nil {
		if reason := s.within.take(); reason != "" {
			<-s.free
			return reason
		}
	}
	return ""
}

// give gives back what take took.
func (s *Slots) give() {
	if s.within != nil {
		s.within.give()
	}
	<-s.free
}
