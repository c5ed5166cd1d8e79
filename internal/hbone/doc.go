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
// A Conn owns its net.Conn. All methods may be called at once from everywhere. Streams have no goroutine, and a Conn has one only while it has to:
//
// Whoever waits for frames reads them. One at a time holds the seat (seat.go): usually a Read that waits for its stream, else an Open or Accept, and if nobody
// waits a goroutine of the Conn's own. It serves the other streams on the way, lands its own bytes straight in its caller's buffer, and never waits for the
// reader of a stream or for the network's write side. So a stream that is alone on its connection costs no change of goroutine.
//
// Whoever makes a frame sends it, if the transport can be written to without waiting (Transport), straight from the caller's buffer. Where it cannot, when the network
// takes no more, or when many streams have something to say at the same time, frames gather in a queue and a goroutine sends them in one go.
//
// Bulk is read of a Transport in larger pieces than TLS asks for (readahead.go), and a Read of a stream takes along whatever of it is here, without waiting.
//
// Frames leave in the order in which the calls that made them returned. Streams that wait for the connection (its window, its turn, or the
// space in its queue) are served in turn, one frame each. When Done is closed, nothing runs any more that the Conn began.
//
// # Overload
//
// Every queue is bounded. Write waits when the windows of the peer or the queue of the connection are used up; what a peer may have
// buffered here is bounded by the windows we announce; what a peer makes us answer (PING, SETTINGS, resets) is bounded by budgets, and a peer
// that exceeds them loses the connection (ENHANCE_YOUR_CALM). Settings has the numbers and their reasons.
package hbone
