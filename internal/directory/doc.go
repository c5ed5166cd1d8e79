// SPDX-License-Identifier: Apache-2.0

// Package directory is the read side of the mesh's snapshot: who lives at this address, what is behind this name, and which
// endpoint should this connection go to.
//
// A [View] is immutable. [Live] holds the current one: a single writer applies deltas to it, any number of readers load it by
// one atomic read and never wait. A view that was loaded stays valid and consistent for as long as it is held; hold it for one
// decision, not for a connection's life. [View.Superseded] tells when a newer one exists.
//
// Applying a delta copies only the parts of the indexes that it touches. Values are shared with the delta and are read-only;
// a gateway's policies that did not change are those of before.
//
// The package knows no wire, no socket and no clock, and chance is passed in.
package directory
