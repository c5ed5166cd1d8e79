// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"time"

	"golang.org/x/net/http2"
)

var (
	resetsSpent  = calmFor(EventResetBudget)
	controlSpent = calmFor(EventControlBudget)
	updatesSpent = calmFor(EventUpdateBudget)
	headersEnd   = calmFor(EventHeaderLimit)
	badProtocol  = breachOf(http2.ErrCodeProtocol)
	badTable     = breachOf(http2.ErrCodeCompression)
	badSize      = breachOf(http2.ErrCodeFrameSize)
	badWindow    = breachOf(http2.ErrCodeFlowControl)
	closedStream = breachOf(http2.ErrCodeStreamClosed)
	idled        = fate{http2.ErrCodeNo, EventIdle}
	silent       = fate{http2.ErrCodeNo, EventSilent}
)

func endsWith(f ...fate) wave { return wave{ends: f} }

// impatient makes silence end a connection within the siege.
func impatient(s *Settings) {
	s.PrefaceTimeout, s.PingInterval, s.PingTimeout = 200*time.Millisecond, 100*time.Millisecond, 200*time.Millisecond
}

func falls(f ...fate) wave { return wave{ends: f, settings: impatient} }

// strict has few streams to reset.
func strict(s *Settings) {
	narrow(s)
	s.Resets = Budget{Burst: 20, PerSecond: 1}
}

// narrow has the windows that hostile.Filled is made for.
func narrow(s *Settings) { s.ConnWindow, s.StreamWindow = 1<<20, 20<<10 }
