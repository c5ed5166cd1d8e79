// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"time"
)

// Limits bound what peers may cost the gateway. The zero value of each field means its default. Each refusal for a limit is
// counted in isthmus_gateway_limited_total under the limit's name.
type Limits struct {
	// Handshakes is how many connections there may be that are accepted and have not sent a whole ClientHello, and as many again those that have, and whose TLS is not done; 1024,
	// at about 10 KiB each. One more ends the one that was silent for longest.
	Handshakes int
	// HandshakesPerAddress is how many of the former there may be of one address; 512, as all pods of a node, or of a whole cluster behind NAT, may come from one address. One more
	// ends the one of that address that was silent for longest, and is closed unanswered if none is. The latter may be half of Handshakes, and give way to those of their address
	// when they are silent for a second.
	HandshakesPerAddress int
	// HandshakeTimeout ends a handshake that takes longer; 10 s.
	HandshakeTimeout time.Duration
	// Connections is how many outer connections there may be; 16384, at about 60 KiB each 1 GiB. One more has one drained that carries nothing.
	Connections int
	// ConnectionsPerPeer is the same for one identity; half of Connections, so that no identity can use all of them. Each pod has its own, and up to four over
	// a way with a round trip of 100 ms and more, so this bounds how many pods of one service account may be connected.
	ConnectionsPerPeer int
	// ConnectionsPerAddress is the same for one address (one /64 network of IPv6) and the ports whose clients prove no identity, which together have half of Connections; a quarter of
	// Connections, as all of a cluster behind NAT may come from one.
	ConnectionsPerAddress int
	// Streams is how many streams there may be; 65536, about as many as one address has ports towards one pod.
	Streams int
	// StreamsPerPeer is the same for one identity; half of Streams.
	StreamsPerPeer int
	// StreamsPerService is the same for one service, whoever asks for it; half of Streams: one whose endpoints do not answer has each stream wait for
	// ConnectTimeout, and must not keep the others from being served.
	StreamsPerService int
	// ConnectTimeout is the deadline for connecting to an endpoint, over all endpoints tried; 8 s, so that the answer comes before a
	// source that waits 10 s gives up.
	ConnectTimeout time.Duration
	// AttemptTimeout is how long one endpoint may take while there are others; 2 s, enough for one lost SYN (RFC 6298: 1 s).
	AttemptTimeout time.Duration
	// StreamIdle is how long a connection to a port for TCP or TLS may carry nothing; 1 h, as usual for proxies. It may take twice as long until it is ended.
	StreamIdle time.Duration
	// DatagramClients is how many clients of ports for UDP are remembered, by address and port; 8192, at a socket, a goroutine and about 6 KiB each. Beyond it
	// one of which little was heard gives way, or one that was silent for 5 s or more, or else the datagram is dropped.
	DatagramClients int
	// DatagramClientsPerAddress is the same for one address; half of DatagramClients, as all of a cluster behind NAT may come from one.
	DatagramClientsPerAddress int
	// DatagramIdle is how long a client is remembered that neither sends nor is sent anything; 60 s. One that has sent but once, as anybody can in another's name, is
	// forgotten in a quarter of that.
	DatagramIdle time.Duration
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Handshakes, 1024)
	setDefault(&l.HandshakesPerAddress, 512)
	setDefault(&l.HandshakeTimeout, 10*time.Second)
	setDefault(&l.Connections, 16384)
	setDefault(&l.ConnectionsPerPeer, max(l.Connections/2, 1))
	setDefault(&l.ConnectionsPerAddress, max(l.Connections/4, 1))
	setDefault(&l.Streams, 65536)
	setDefault(&l.StreamsPerPeer, max(l.Streams/2, 1))
	setDefault(&l.StreamsPerService, max(l.Streams/2, 1))
	setDefault(&l.ConnectTimeout, 8*time.Second)
	setDefault(&l.AttemptTimeout, 2*time.Second)
	setDefault(&l.StreamIdle, time.Hour)
	setDefault(&l.DatagramClients, 8192)
	setDefault(&l.DatagramClientsPerAddress, max(l.DatagramClients/2, 1))
	setDefault(&l.DatagramIdle, time.Minute)
	return l
}

func setDefault[T ~int | ~int64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// handshakeTurns is how many handshakes are computed at once, at about a millisecond of CPU each: as many as a node proxy's for one pod.
const handshakeTurns = 128

// quota counts what is in use, in all and by key, and says no beyond its bounds.
type quota[K comparable] struct {
	most, mostPerKey int

	mu    sync.Mutex // hold for both below
	total int
	byKey map[K]int
}

func newQuota[K comparable](most, mostPerKey int) *quota[K] {
	return &quota[K]{most: most, mostPerKey: mostPerKey, byKey: map[K]int{}}
}

// take counts one more for k, or answers false. Every take that answered true is followed by one give.
func (q *quota[K]) take(k K) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total >= q.most || q.byKey[k] >= q.mostPerKey {
		return false
	}
	q.total++
	q.byKey[k]++
	return true
}

// force counts one more for k in any case. It is followed by one give.
func (q *quota[K]) force(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total++
	q.byKey[k]++
}

func (q *quota[K]) give(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.byKey[k]--; q.byKey[k] == 0 {
		delete(q.byKey, k)
	}
}

func (q *quota[K]) used() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// CollectAt is how much the heap of a gateway's process should grow, in percent of what is in use, before garbage is collected. Requests and streams leave
// garbage and hardly anything that stays: with Go's usual 100 a tenth of the processor time under load was spent on looking through the same few megabytes again.
const CollectAt = 400

// MemoryChanged has what is bounded by the process's limit of memory (runtime/debug.SetMemoryLimit) follow it.
func (s *Server) MemoryChanged() { s.web.MemoryChanged() }
