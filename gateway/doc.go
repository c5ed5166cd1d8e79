// SPDX-License-Identifier: Apache-2.0

// Package gateway is the data plane of an east-west gateway: a network's entry point for the clusters of other networks.
//
// It ends the outer tunnel of a double HBONE connection with its own identity, looks at the service that the CONNECT names,
// picks an endpoint of that service in its own network, connects to the HBONE port of that endpoint, and only then
// answers 200. From there on it copies bytes that it cannot read: the inner tunnel is between the source's proxy and the
// endpoint's. Before the 200 it may try another endpoint; after it, never.
//
// It forwards services that its configuration exports, to peers of trust domains that its configuration names and whom its policies
// allow, and nothing else. Who a peer is, the outer connection's TLS proved; no header has a say in it. When policies change, or who may
// come, what runs and was judged by others is judged again, beside what follows the configuration, and ends if it is not allowed any more (streams.go). A refusal has a status, a reason (also sent as
// x-isthmus-reason), a counter, and a line in the access log.
//
// Configuration is a directory.Live. A Server follows it: listeners that appear are bound before listeners that are gone are
// drained, and a gateway whose configuration vanishes goes on with the last one. Decisions are pure functions of one
// directory.View and one configuration (exports.go, authorize.go); who carries how much is in one place (endpoints.go); each connection and stream has one goroutine
// that Server.Run waits for.
//
// Ports for TCP and TLS (streamport.go, tlsroute.go) pass connections on to backends of routes, and ports for UDP (udp.go) datagrams. Their clients
// prove no identity: policies judge them by addresses and ports.
//
// Listeners for HTTP and HTTPS are served by package http below, for clients outside the mesh; their ports follow the configuration in the same way (web.go).
//
// A gateway that is a waypoint ends the tunnels of node proxies and looks inside (waypoint.go): requests are judged and routed one by one, by the routes at the
// service that was asked for, and other bytes are passed on to one endpoint (sniff.go tells which is which where nobody said so). It serves what its
// configuration says it stands in front of, and reaches endpoints as any source does, by package reach, with its own identity.
//
// The package knows no Kubernetes.
package gateway
