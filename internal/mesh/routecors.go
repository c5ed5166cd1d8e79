// SPDX-License-Identifier: Apache-2.0

package mesh

// CORS says which origins' scripts may send requests, and read the answers (fetch.spec.whatwg.org, HTTP-CORS protocol).
type CORS struct {
	// Origins are "*", or lower case as "scheme://host" or "scheme://host:port", where the host may hold one star, which stands for any text.
	Origins []string
	// Credentials lets cookies and the like go along.
	Credentials bool
	// Methods and Headers are those that requests may have, besides those that need no leave; Expose are headers of answers that scripts may read.
	// Each may be a star alone, which is all of them.
	Methods, Headers, Expose []string
	// MaxAge is how long a browser may remember this, in seconds.
	MaxAge uint32
}
