// SPDX-License-Identifier: Apache-2.0

package mesh

// Bundle is what identities of one trust domain are verified with, and those of no other.
type Bundle struct {
	TrustDomain string
	// Roots are certificates in DER, in the order in which they were told.
	Roots [][]byte
}
