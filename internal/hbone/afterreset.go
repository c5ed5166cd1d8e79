// SPDX-License-Identifier: Apache-2.0

package hbone

import "io"

// AfterReset has f called, in a goroutine of its own, once the peer's direction breaks: by a reset other than NO_ERROR and CANCEL, or with the
// connection. If that has happened it is called at once; if the direction ended in order, or the stream was closed here first, never. It is for an owner
// who may be too busy writing elsewhere to learn of it from Read. There can be one f at a time.
//
// stop takes f back and says whether that was in time; if not, f was called.
func (s *Stream) AfterReset(f func()) (stop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = f
	if s.rerr != nil {
		s.tellBroken()
	}
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		inTime := s.broken != nil
		s.broken = nil
		return inTime
	}
}

// tellBroken calls whoever wants to know, if rerr is no ordinary end. mu must be held.
func (s *Stream) tellBroken() {
	if s.broken == nil || s.closed || s.rerr == io.EOF { //nolint:errorlint // what only wraps io.EOF is a broken connection, not an end
		return
	}
	go s.broken()
	s.broken = nil
}
