// SPDX-License-Identifier: Apache-2.0

// Package http is the part of a gateway's data plane that routes requests: HTTP/1.1, HTTP/2 and h2c, with TLS or without.
//
// A [Port] serves one TCP port for all listeners that share it. What it serves is a [Table], made once per configuration and never changed:
// the listener is found by the host, then the rule by hostname, path, method, headers and query in the order of the Gateway API, by look-ups in
// maps and without allocations. A new configuration is one pointer that is swapped: connections stay, requests that run go on by the
// rules that they began with.
//
// Plain requests, which nearly all are, are read and answered by a loop of our own; it judges nothing, but leaves what is not plain to net/http, with its connection (see plainconn.go).
//
// An [Inside] serves the requests that come in tunnels of the mesh, each by the table and the policies of its [Visit].
//
// A request that is not carried is answered with a status, a reason (also sent as x-isthmus-reason), a counter, and a line in the access log.
//
// Endpoints are looked up in the directory for every request. A connection that cannot be made is tried at another endpoint, as nothing of the
// request was sent; what failed later only if the rule says so (see retry.go), within a budget. Connections to endpoints are kept and used again: plain requests in
// HTTP/1.1 drive theirs themselves (see direct.go), all others have net/http's Transport. How one
// request is carried to one endpoint is behind [Carrier], which a faster one can take the place of.
package http
