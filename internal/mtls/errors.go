// SPDX-License-Identifier: Apache-2.0

package mtls

import "fmt"

// Reason is why a peer was not believed. It is a constant word, fit for a metric label.
type Reason string

const (
	// ReasonNoCertificate: the peer showed no certificate.
	ReasonNoCertificate Reason = "no_certificate"
	// ReasonProtocol: something other than HTTP/2 was negotiated, or nothing.
	ReasonProtocol Reason = "protocol"
	// ReasonIdentity: the leaf does not carry exactly one URI SAN of the form of mesh.Identity.
	ReasonIdentity Reason = "identity"
	// ReasonTrustDomain: there is no bundle for the trust domain that the peer claims.
	ReasonTrustDomain Reason = "trust_domain"
	// ReasonChain: the chain does not end at a root of the claimed trust domain, or the leaf is a CA.
	ReasonChain Reason = "chain"
	// ReasonExpired: a certificate of the chain is expired or not valid yet.
	ReasonExpired Reason = "expired"
	// ReasonRevoked: the issuer of a certificate of the chain has revoked it.
	ReasonRevoked Reason = "revoked"
	// ReasonUsage: the leaf is not meant for this side of a connection.
	ReasonUsage Reason = "usage"
	// ReasonUnwanted: the peer proved an identity, but none of those that were demanded.
	ReasonUnwanted Reason = "unwanted"
	// ReasonNothingWanted: no identity at all was demanded, so no peer can be right.
	ReasonNothingWanted Reason = "nothing_wanted"
)

// VerifyError says why a peer was not believed. The TLS connection is closed without any further answer.
type VerifyError struct {
	Reason Reason
	// Peer is what the peer claimed to be, as far as that could be read: a claim, proved by nothing.
	Peer string
	Err  error // the detail; may be nil
}

// Error names the claimed peer, the reason and the detail.
func (e *VerifyError) Error() string {
	peer := e.Peer
	if peer == "" {
		peer = "without a readable identity"
	}
	if e.Err == nil {
		return fmt.Sprintf("peer %s refused: %s", peer, e.Reason)
	}
	return fmt.Sprintf("peer %s refused: %s: %v", peer, e.Reason, e.Err)
}

// Unwrap gives the detail.
func (e *VerifyError) Unwrap() error { return e.Err }

// IssueError says that no valid certificate could be had for an identity.
type IssueError struct {
	Identity string
	Err      error
}

// Error names the identity and what the issuer said.
func (e *IssueError) Error() string { return fmt.Sprintf("certificate for %s: %v", e.Identity, e.Err) }

// Unwrap gives what the issuer said.
func (e *IssueError) Unwrap() error { return e.Err }
