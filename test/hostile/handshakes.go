// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// handshakes make the peer pay for connections that carry nothing.
var handshakes = []Attack{
	{Name: "connect-flood", By: Client, From: Connected, Do: leave},
	{Name: "garbage-flood", By: Client, From: Connected, Do: func(p *Peer) {
		p.Write(bytes.Repeat([]byte("no TLS at all, "), 20))
	}},
	// The cheapest way to have the other side sign something.
	{Name: "hello-flood", By: Client, From: Connected, Do: func(p *Peer) {
		p.Write(clientHello())
		p.Flush()
		_ = p.Raw.SetReadDeadline(time.Now().Add(time.Second)) // a peer that says nothing costs us a second, not the siege
		_, _ = p.Raw.Read(make([]byte, 1))                     // it has signed, or closed
		leave(p)
	}},
	{Name: "handshake-flood", By: Client, From: Encrypted, Do: leave},
	{Name: "reconnect-storm", By: Client, Do: func(p *Peer) {
		p.Live()
		leave(p)
	}},
	// TLS 1.3 lets a peer ask for new keys at any time, and each time the other side has to answer.
	{Name: "key-update-flood", By: Client, From: Encrypted, Deaf: true, Do: func(p *Peer) {
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.CopyBuffer(io.Discard, onlyReader{p.Raw}, make([]byte, 4<<10)) // whatever it is
			p.over.Store(true)
			_ = p.Raw.Close() // gets a write out that hangs
		}()
		p.rekey()
		p.Flush()
		<-read
	}},
	// The same by one who does not read the answers: whoever waits to send one may never come back from it.
	{Name: "key-update-flood-unread", By: Client, From: Encrypted, Deaf: true, Do: func(p *Peer) { p.rekey() }},
}

// leave goes without a word, and comes back: Storm sees to that.
func leave(p *Peer) {
	p.Flush()
	_ = p.Raw.Close() // what else
	p.failed = true
}

// onlyReader hides what would make a copy take another way than Read.
type onlyReader struct{ io.Reader }

// clientHello is one as crypto/tls sends it.
var clientHello = sync.OnceValue(func() []byte {
	a, b := net.Pipe()
	go func() {
		// Ends with the pipe; the hello is all that we want of it.
		_ = tls.Client(a, TLS()).Handshake()
	}()
	hello := make([]byte, 16<<10)
	n, _ := b.Read(hello) // a pipe gives what was written
	b.Close()
	return hello[:n]
})
