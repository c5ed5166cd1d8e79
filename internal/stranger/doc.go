// SPDX-License-Identifier: Apache-2.0

// Package stranger holds connections whose other end has proved nothing yet: those that are accepted on a port for TLS, until their handshake is over.
//
//   - A Room bounds them. Who is silent costs a descriptor and a goroutine, and gives way: one too many ends the one that was silent for longest, so that to keep others out takes
//     as many connections as there are places in the time of a round trip, again and again. Those whose handshake has begun have places of their own, from which nobody drives them
//     that has not sent a ClientHello, nor one of their own address before they stall.
//   - Hello waits until a whole ClientHello has arrived, without taking any of it: nothing is prepared for who does not send one.
//   - ConfinedHello does so where somebody who passes on a connection that it cannot read may have said first what may be asked for in it. Only the first bytes count, and whoever
//     is inside sends none of them.
//   - A turn is for work. It is held only between what the peer sends and our answer, never while we wait for the peer, so that turns bound the cryptography that runs at once, and
//     whoever stops in the middle of a handshake keeps nobody waiting.
//
// Methods of a Room may be called from any goroutine, those of a Conn from the one that does its handshake. It knows no TLS but the framing of its first message, and no mesh.
package stranger
