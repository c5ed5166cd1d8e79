// SPDX-License-Identifier: Apache-2.0

// Package authz says whether a caller may, by authorization policies, wherever these are enforced: at the pod, by its node proxy, at the
// entry of a network, by its gateway, or before a service, by its waypoint, which knows each request.
//
// [Authorize] is the meaning: any DENY that matches denies; without any ALLOW the rest is allowed; otherwise one ALLOW must match. An [Index] gives
// the same answer in a time that hardly depends on how many policies there are, unless they ask for nothing but methods, hosts or headers. Everything here is pure, and
// safe for any number of callers.
//
// What a policy asks of a [Request] keeps out by any reading of it that those behind us may have, and lets in by all of them only (see path.go). What one judgement costs is
// bounded, whatever a request holds; what cannot be read within that is kept out.
package authz
