// SPDX-License-Identifier: Apache-2.0

// Package authz says whether a caller may, by authorization policies, wherever these are enforced: at the pod, by its node proxy, at the
// entry of a network, by its gateway, or before a service, by its waypoint, which knows each request.
//
// [Authorize] is the meaning: any DENY that matches denies; without any ALLOW the rest is allowed; otherwise one ALLOW must match. An [Index] gives
// the same answer in a time that hardly depends on how many policies there are. Everything here is pure, and safe for any number of callers.
package authz
