// SPDX-License-Identifier: Apache-2.0

// Package controllers is everything that talks to API servers: it reads the local and all remote clusters, serves what follows from
// that to proxies, and writes statuses, gateways' Deployments and reserved addresses.
//
// Every replica reads and serves; one, the leader, writes. The way of a change is: an informer's event → Feed → world.Store → Pipeline
// (which owns the translate.Engine) → xds.Server, and from there names of objects to look at again → inboxes → the controllers that
// write. Nothing on that way blocks on the next: what is pending is a set of names, bounded by the number of objects.
//
// No proxy is answered before the local cluster, each remote one (or 30 s), and the reserved addresses were read. A remote cluster lives
// in a connection with a cache and a feed of its own; removing it takes its objects out at once and leaves no goroutine behind.
//
// A cluster counts as heard of when all that was read of it is in use and was translated. Before, proxies are not told that what they know of it is gone; and addresses
// of services that exist there only are not taken back, then and when its state became too old to be used.
//
// The package knows no tunnel: what proxies do with what they are told is theirs.
package controllers
