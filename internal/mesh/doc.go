// SPDX-License-Identifier: Apache-2.0

// Package mesh is the vocabulary that the control plane and the data plane share: workloads, services, identities, policies,
// gateway configuration, and snapshots of them.
//
// Everything here is a value. A value that was handed over is never changed by either side: to change one, make another.
// Slices and maps inside values are therefore shared freely and must be treated as read-only by whoever receives them.
// The package knows no Kubernetes, no wire format and no clock, and imports the standard library only.
package mesh
