// SPDX-License-Identifier: Apache-2.0

// Package xds is the wire between the planes: a delta discovery server for the control plane, a client for the data
// plane, and the client of the certificate service.
//
// The wire is the one that istiod and ztunnel speak: delta ADS over gRPC and TLS, resources of the types
// istio.workload.Address and istio.security.Authorization, and one more of ours, isthmus.gateway.v1.Gateway. So our
// server can drive a ztunnel, and our client can follow an istiod.
//
// The server has one writer, Update, which never waits for a subscriber. Each resource is encoded once, when it
// changes, and named by a hash of its content. What a subscriber has still to be told is a set of names, so a slow one
// costs no more than one name per resource, and gets the latest state of each when it is ready: there is at most one
// unacknowledged response per subscriber and type. Subscribers are woken one after another, so that the first hear of a change while the last are still to be told.
//
// The client applies what it receives in order, one response at a time, and acknowledges it after it was applied. A
// resource that cannot be believed is rejected alone; what was known under its name before stays. A gateway's routes and policies are so each for itself: a route
// that cannot be read answers 500 in its own place, a policy keeps everybody out of what it guards, and the rest of the gateway is taken. Names and versions are
// kept over reconnects, so that only differences travel, and nothing is forgotten while no server can be reached.
//
// What a client knows can be kept in a file, so that its process may end and begin again while no server can be reached: SaveSnapshot and Client.Restore.
//
// Nobody outside this package and internal/ca sees gRPC or the generated messages.
package xds
