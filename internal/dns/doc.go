// SPDX-License-Identifier: Apache-2.0

// Package dns answers the DNS queries that a pod makes: from the directory for the mesh's names, and otherwise by asking the server that
// the pod had asked.
//
// resolve.go, names.go and srv.go are pure: a view, a client and a name give an answer, or say that somebody else has it. query.go judges the
// bytes of a query and message.go those of an answer; reply.go makes answers. server.go reads and writes sockets, forward.go asks
// upstream through connections that the caller opens, so that they leave from the pod's own network namespace.
//
// What the directory answers is answered by whoever read the query, at once: no server upstream, dead or slow, and no number of
// queries that wait for one, delays it. Queries that are passed on are bounded by Slots, for each pod and for all; beyond that they are
// refused with SERVFAIL, and counted, rather than dropped.
//
// What a server told a pod is told that pod again for as long as its TTLs say, by a Cache of each pod's own: a cache that pods share would have to know what only the server knows, that it
// answers this pod, and this pod alone, in this way.
package dns
