// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// fieldCost is what a header costs besides its bytes (RFC 9113, 6.5.2), and streamCost what a request in HTTP/2 does, in bytes: its goroutine, and the connection to a backend (TestWhatWaitingRequestsCost).
// One in HTTP/1 has its connection for that, of which there is a bound of its own.
const fieldCost, streamCost = 32, 32 << 10

// fewHeads is what a client may hold and still take of the last eighth of the memory for heads: three requests in HTTP/2 with small headers, or one with as large ones as may be. Without that, some hundred
// networks with a few requests each, which hang, would leave nothing to who comes then; with it, it takes as many as have room in that eighth, each with its few.
const fewHeads = 4 * streamCost

// newHeads is the memory for heads.
func newHeads(most int64) *pool[asker] {
	p := newPool[asker](most)
	p.reserve, p.few = most/8, fewHeads
	return p
}

// MemoryChanged has what headers may hold follow the process's limit of memory (runtime/debug.SetMemoryLimit), unless Options.Limits say how much that is. Requests that run go on.
func (s *Server) MemoryChanged() {
	if !s.headsFollow {
		return
	}
	most := headMemory()
	s.heads.mu.Lock()
	defer s.heads.mu.Unlock()
	s.heads.most, s.heads.reserve = most, most/8
}

// headMemory is how much heads may hold if nobody says so: half of what the process may have, if that is bounded.
func headMemory() int64 { return min(512<<20, debug.SetMemoryLimit(-1)/2) }

// asker is who shares what the heads of one client's requests may hold: the peer of a visit, or else a network, which is an address of IPv4.
type asker struct {
	peer    mesh.Identity
	network netip.Prefix
}

func askerOf(t *trip) asker {
	if t.visit != nil {
		return asker{peer: t.visit.Peer}
	}
	bits := 32
	if t.from.Is6() {
		bits = 64 // of which a host has as many addresses as it likes
	}
	network, _ := t.from.Prefix(bits) // fails for the zero address only: one place for all that are not known
	return asker{network: network}
}

// headSize is what a request holds as long as it runs, but for its body.
func headSize(r *http.Request) int64 {
	size := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v) + fieldCost
		}
	}
	if r.ProtoMajor == 2 {
		size += streamCost
	}
	return int64(size)
}

// dropHead keeps no more of a request than its line in the log will say: its client may take long to read why it is refused.
func dropHead(r *http.Request) {
	clear(r.Header)
	r.Method = strings.Clone(r.Method[:min(len(r.Method), maxLogged)])
	r.Host = strings.Clone(r.Host[:min(len(r.Host), maxLogged)])
	r.URL = &url.URL{Path: strings.Clone(r.URL.Path[:min(len(r.URL.Path), maxLogged)])}
	r.RequestURI = ""
}
