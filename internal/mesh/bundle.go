// SPDX-License-Identifier: Apache-2.0

package mesh

// MaxRoots is how many roots a bundle may hold: as many as both files of roots that an authority may have.
const MaxRoots = 128

// Bundle is what identities of one trust domain are verified with, and those of no other.
type Bundle struct {
	TrustDomain string
	// Roots are certificates in DER, in the order in which they were told.
	Roots [][]byte
}
