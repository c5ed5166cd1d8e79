// SPDX-License-Identifier: Apache-2.0

// Package reach gets from here to an endpoint of a service, in this network or in another one: which endpoint, by which tunnels, and what if it cannot be connected.
//
//   - From decides: a pure function of a directory's view that answers with a Plan (plain TCP; HBONE to a pod; double HBONE through another network's gateway).
//   - Tunnels carry a Plan out, as one identity and from one place. Tunnels to a next hop are shared, and so are the inner ones, as package inner says.
//   - Search is both together, for one connection: it tries another endpoint, or another cluster, when one cannot be connected, until a deadline.
//   - Health remembers whom to pass over because it failed lately, for one source of connections; Healths are those of all in a process.
//
// What it promises: who answers has proved an identity that the service's endpoints may have, unless the endpoint is not in the mesh; a connection is tried again elsewhere only as
// long as no byte of it was sent; what is remembered is bounded. Methods of Tunnels and Health may be called from any goroutine, those of a Search from one.
//
// It knows nothing of waypoints, policies and listeners: who may ask, and whether a waypoint comes before the endpoint, is decided by its callers.
package reach
