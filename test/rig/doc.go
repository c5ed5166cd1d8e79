// SPDX-License-Identifier: Apache-2.0

// Package rig puts the data plane on a table: nodes and pods are network namespaces with links between them, proxies are the product's own programs, each in
// a process of its own, and what they know and prove comes from the product's own translation, discovery and certificate service in this process.
//
//	cluster east, network east                                   cluster west
//	pods 10.77.0.0/24 ── node 0 ──┬── fabric 203.0.113.0/24 ──┬── node 0 ── pods 10.77.0.0/24
//	pods 10.77.1.0/24 ── node 1 ──┘                           └── …
//
// Nodes of a network have routes to each other's pods. Usually each cluster is a network: clusters reach each other over the fabric only, and have the same
// addresses. But several can be on one network, and one on several.
//
// It is for scoreboard rows and tests that need whole processes on more than one node. It needs Linux and root. Nothing that it makes has a name outside of the
// process, but for one temporary directory: namespaces live as long as somebody holds them, and processes die with the thread that started them. So nothing is
// left behind even if Close is never called, save that directory.
package rig
