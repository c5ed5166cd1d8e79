// SPDX-License-Identifier: Apache-2.0

// Package ca is the certificate authority of a cluster's mesh: it signs for workload identities that somebody else found
// the caller entitled to.
//
// A Signer holds the issuing key and the roots, in the layout of the Secret "cacerts" (ca-cert.pem, ca-key.pem,
// root-cert.pem, cert-chain.pem), so that one root may span clusters, or in that of cert-manager (tls.crt, tls.key, ca.crt);
// SelfSigned makes the former for a single cluster.
// A Signer never changes: rotation is another Signer, which Service asks for at each request. The roots may be more than
// the issuer's own, which is how a root is rotated: bundles first, issuers second.
//
// A Service answers the calls of ztunnel and of our own proxies. A certificate names exactly the one identity that
// Authorize gave, whatever the request wished for, is good for client and server, and ends before its issuer does.
package ca
