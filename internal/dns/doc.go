// SPDX-License-Identifier: Apache-2.0

// Package dns answers the DNS queries that a pod makes: from the directory for the mesh's services, and otherwise by asking the
// servers that the pod would have asked.
//
// resolve.go is pure: a view, a client and a name give an answer or "not ours". server.go owns the sockets' traffic, with a bound on
// the queries in flight; what exceeds it is dropped, as a lossy network would do. forward.go asks upstream through connections that
// the caller opens, so that they leave from the pod's own network namespace.
package dns
