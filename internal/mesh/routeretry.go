// SPDX-License-Identifier: Apache-2.0

package mesh

import "time"

// HTTPRetry says which failures of a backend a request outlives, and how often.
type HTTPRetry struct {
	// Codes are the statuses of answers that are not passed on while another attempt is left, sorted; each of 400 to 599.
	Codes []uint16
	// Attempts is how many may follow the first one; 0: none, not even where a connection could not be made.
	Attempts uint32
	// Backoff is the time before the second attempt, from which later ones grow; 0: the data plane's own.
	Backoff time.Duration
}
