// SPDX-License-Identifier: Apache-2.0

// Package mtls proves one identity and demands another: certificates by identity, kept fresh from an issuer, and TLS
// configurations made of them.
//
// A Source holds one certificate per identity. The first who asks makes it fetch; everybody else who asks meanwhile waits
// for the same answer. One goroutine per identity renews at about half of the lifetime and keeps the old certificate until
// it expires when the issuer fails. Source.Close ends and waits for all of them.
//
// Trust bundles are kept by trust domain. The bundle of a trust domain of our own is the one that SetBundle named, or, if it named none, the root bundle that
// the issuer gave last; bundles of other domains count only if SetBundle named them. Each counts from the next handshake on, for every configuration already
// handed out. A peer is verified against the bundle of the domain that it claims, so a root of one
// domain can never vouch for a name in another.
//
// TLS is 1.3 only, with ALPN "h2" on both sides, without SNI and without resumption: a resumed session would skip the
// verification against the bundle of now. crypto/tls does not let anybody choose among the suites of TLS 1.3; with AES in hardware on either
// side it settles on AES-GCM, the only suites that ztunnel offers.
//
// A Vault keeps certificates with their keys over a restart of the process, in memory only, to bridge the time until the issuer answers.
//
// The package knows neither where certificates come from nor what runs over the connections.
package mtls
