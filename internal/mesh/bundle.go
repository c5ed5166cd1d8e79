// SPDX-License-Identifier: Apache-2.0

package mesh

const (
	// MaxRoots is how many roots a bundle may hold: as many as both files of roots that an authority may have.
	MaxRoots = 128
	// MaxLists is how many revocation lists it may hold.
	MaxLists = 64
	// MaxListBytes is how long they may be together: a list has about 40 bytes for each certificate, and what a list comes from, a Secret, holds 1 MiB.
	MaxListBytes = 4 << 20
)

// Bundle is what identities of one trust domain are verified with, and those of no other.
type Bundle struct {
	TrustDomain string
	// Roots are certificates in DER, in the order in which they were told.
	Roots [][]byte
	// Revoked are revocation lists in DER, each of some authority of the trust domain.
	Revoked [][]byte
	// AliasOf is the trust domain that this one is another name of: identities of both that are equal otherwise are the same one. Mostly empty.
	AliasOf string
}
