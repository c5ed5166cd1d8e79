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
	unread       = calmFor(EventUnreadAnswers)
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

// What is known to be wrong. A wave that breaks again needs no todo any more.
const (
	todoForged  = "an answer to a PING of ours costs the peer nothing, asked for or not"
	todoStuffed = "SETTINGS with thousands of windows cost one token, and move every stream's window for each of them"
	todoUnknown = "frames of unknown types cost one token each, up to the megabyte that they may have, and no window"
	todoUnread  = "answers to requests are queued without a bound, and past 128 KiB each of them copies the queue"
	todoDiscard = "DATA on a stream that was reset here costs nothing, as long as it comes"
	todoChunks  = "a stream's bytes lie in chunks of up to 64 KiB, which a frame of a byte more than the next smaller chunk fills by a quarter"
	todoDrain   = "a server that drains an idle connection waits for an answer to its PING without a limit"
	todoKeys    = "closing a TLS connection waits for whoever writes its answer to a key update, without a deadline"
	todoBomb    = "a header block is decoded to its end, however much that is: four kilobytes keep a core busy for a tenth of a millisecond"
	todoTiny    = "DATA of a byte in a frame costs as much work as any, is not counted, and keeps whoever reads it from everything else"
	todoPool    = "a dial that succeeds ends the backoff, though the connection is of no use"
	todoPinned  = "a connection keeps buffers as large as the largest header block that it ever read"
)
