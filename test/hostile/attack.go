// SPDX-License-Identifier: Apache-2.0

// Package hostile is a hostile HTTP/2 peer: it knows how to hurt whoever speaks HBONE, as a client or as a server.
//
// An Attack is what is done on one connection; Storm and Lure have it done again and again, for an attacker that loses its connection comes back
// at once. What is attacked is not known here, so that the tests of the tunnel (in the tunnel's own process) and the scoreboard (in another one) use
// the same attacks: this package speaks raw frames, and imports no tunnel. What an attack may achieve is said by whoever mounts it.
//
// An Enemy is a process of its own, so that neither the processor time nor the memory of the attackers is taken for that of their victim.
package hostile

import "slices"

// Role is the side of the connection on which an attack makes sense.
type Role uint8

// The roles. Many attacks serve both.
const (
	Client Role = 1 << iota
	Server
)

// Layer is how far a connection is brought before it is handed to an attack.
type Layer uint8

// The layers. The zero value is what most attacks want.
const (
	Greeted   Layer = iota // preface and SETTINGS are sent
	Encrypted              // TLS is done
	Connected              // TCP only
)

// Attack is one way to hurt a peer, on one connection.
type Attack struct {
	// Name is unique, in lower case and with hyphens.
	Name string
	// By are the roles of the attacker.
	By Role
	// From is what is done before Do.
	From Layer
	// Deaf attackers read nothing, and have a small receive buffer to be deaf with.
	Deaf bool
	// Stubborn attackers go on when the peer has said GOAWAY or closed its side, until the socket takes no more.
	Stubborn bool
	// Polite ones answer PINGs while the connection is held, so that it is not their silence that ends it.
	Polite bool
	// Do attacks, as long as Peer.More says so. If it returns earlier the connection is held open until the peer or the siege ends it.
	Do func(p *Peer)
}

// All gives every attack of a role.
func All(by Role) []Attack {
	var list []Attack
	for _, a := range slices.Concat(resets, blocks, compression, control, data, windows, silences, handshakes, answers) {
		if a.By&by != 0 {
			list = append(list, a)
		}
	}
	return list
}

// Named finds an attack of a role.
func Named(by Role, name string) (Attack, bool) {
	list := All(by)
	if i := slices.IndexFunc(list, func(a Attack) bool { return a.Name == name }); i >= 0 {
		return list[i], true
	}
	return Attack{}, false
}

// Idle is no attack but what attacks are compared with: an honest connection with streams that are open and carry nothing.
func Idle(streams int) Attack {
	return Attack{Name: "idle", By: Client | Server, Polite: true, Do: func(p *Peer) {
		for range streams {
			if p.Live() == 0 {
				return
			}
		}
	}}
}

// Noise is no attack either, but what attacks may be compared with: encrypted bytes that mean nothing, so many on each connection as
// the other side sees on the wire, and then the next connection.
func Noise(each int64) Attack {
	return Attack{Name: "noise", By: Client, From: Encrypted, Do: func(p *Peer) {
		noise := make([]byte, writeBuffer)
		for left := each - handshakeBytes; left > 0 && p.More(); left -= int64(len(noise)) {
			p.Write(noise[:min(int64(len(noise)), left)])
		}
		leave(p)
	}}
}

// Visit is the same of an honest client: it opens so many streams, sends its bytes on one of them, and leaves.
func Visit(streams int, each int64) Attack {
	return Attack{Name: "visit", By: Client, Do: func(p *Peer) {
		first := p.Open(Echo)
		for range streams - 1 {
			p.Open(Echo)
		}
		left := min(each-handshakeBytes-int64(streams)*requestBytes, 65535) // what the window takes
		for payload := make([]byte, 16<<10); left > 0 && p.More(); left -= int64(len(payload)) {
			p.Data(first, payload[:min(int64(len(payload)), left)])
		}
		p.Asked()
		leave(p)
	}}
}

// requestBytes is about what a CONNECT takes once its fields are in the table.
const requestBytes = 13

// handshakeBytes is about what a client writes in a handshake: its hello with a hybrid key share is most of it.
const handshakeBytes = 1500

// Targets of a CONNECT, and what a server under attack has to do with them.
const (
	// Echo is answered 200, and then sends back what comes until it ends.
	Echo = "10.0.0.1:80"
	// Mute is never answered.
	Mute = "10.0.0.2:80"
	// Refused is answered 503.
	Refused = "10.0.0.3:80"
	// Talker is answered 200, and then sends without end.
	Talker = "10.0.0.4:80"
)
