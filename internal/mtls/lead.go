// SPDX-License-Identifier: Apache-2.0

package mtls

import "time"

// maxLead is how long before the end of its peer's certificate a connection is drained, at most. It is the time that the peer has to hear of it and to connect anew, with the
// certificate that it renewed long ago: a stream that it opens then is not refused.
const maxLead = time.Minute

// DrainIn says when a server drains a connection whose peer's certificate ends at until: a minute before, or a tenth of what is left now if that is less. What the peer
// opens after the end, because it does not heed the drain, is to be refused: a proof counts no longer than what it rests on.
func DrainIn(until, now time.Time) time.Duration {
	left := until.Sub(now)
	return left - min(maxLead, left/10)
}
