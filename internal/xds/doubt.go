// SPDX-License-Identifier: Apache-2.0

package xds

import "time"

// missing notes that the subscriber asked for a name, or holds one, which is not there: it is told so, unless that is in doubt.
func (s *subscription) missing(name string, t *table, now time.Time) {
	if t.doubt != nil && t.doubt(name) {
		s.unsure[name] = struct{}{}
		return
	}
	s.mark(name, now)
}

// settle looks again at what was in doubt. What is not any more is told, whatever it came to; once nothing is, the subscriber hears that what it was told
// is complete, even if there is nothing else to say.
func (s *subscription) settle(t *table, now time.Time) {
	for name := range s.unsure {
		if t.doubt == nil || !t.doubt(name) {
			delete(s.unsure, name)
			s.mark(name, now)
		}
	}
	if t.doubt == nil && s.partial {
		s.owed = true
	}
}
