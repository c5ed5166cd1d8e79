// SPDX-License-Identifier: Apache-2.0

// Package ext stands in for a module that Traefik's own go.mod replaces by a folder, which is no part of what it publishes. Its types are the places
// where extensions of the configuration go; there are none.
package ext

// HTTP extends a configuration's HTTP part.
type HTTP struct{}

// Router extends a router.
type Router struct{}
