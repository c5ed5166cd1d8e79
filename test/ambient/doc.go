// SPDX-License-Identifier: Apache-2.0

// Package ambient plays the other half of an ambient mesh for tests: a Ztunnel that follows discovery and asks for certificates, and an Authority that
// answers such requests as istiod does.
//
// What they say and how they read what they hear is written down here from the field tables of discovery.md, number by number, and shares nothing with
// the product: neither its generated messages nor its codec, so that a mistake in those cannot agree with itself.
package ambient
