// SPDX-License-Identifier: Apache-2.0

// Package hbone carries byte streams inside HTTP/2 CONNECT: one connection, many streams, each of them a net.Conn.
//
// It is both ends of a narrow HTTP/2: nothing but plain CONNECT (RFC 9113 §8.5), no push, no priorities, no bodies with a length.
// In return a stream behaves like TCP: END_STREAM is FIN and each direction ends for itself, RST_STREAM is a reset, and a Stream may
// carry TLS and another Conn (double HBONE). What is spoken is written down in docs/hbone.md.
//
// The package knows no meshes, identities or certificates: it takes a net.Conn on which TLS, if any, is done.
//
// # Ownership and concurrency
//
// A Conn owns its net.Conn and two goroutines. One reads: it lands DATA in the buffer of its stream and never waits, neither for the
// reader of a stream nor for the socket's write side. One writes: it takes whatever frames were queued since its last write and sends
// them in one go. Both end before Done is closed. Streams have no goroutine. All methods may be called at once from everywhere.
//
// Frames leave in the order in which the calls that made them returned. Streams that wait for the connection (its window or the
// space in its queue) are served in turn, one frame each.
//
// # Overload
//
// Every queue is bounded. Write waits when the windows of the peer or the queue of the connection are used up; what a peer may have
// buffered here is bounded by the windows we announce; what a peer makes us answer (PING, SETTINGS, resets) is bounded by budgets, and a peer
// that exceeds them loses the connection (ENHANCE_YOUR_CALM). Settings has the numbers and their reasons.
package hbone
