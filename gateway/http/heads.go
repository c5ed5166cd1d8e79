// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// fieldCost is what a header costs besides its bytes (RFC 9113, 6.5.2), and streamCost what a request in HTTP/2 does, in bytes: its goroutine, and the connection to a backend (TestWhatWaitingRequestsCost).
// One in HTTP/1 has its connection for that, of which there is a bound of its own.
const fieldCost, streamCost = 32, 32 << 10

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
