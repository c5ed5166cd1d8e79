// SPDX-License-Identifier: Apache-2.0

package http

import (
	"maps"
	"net/http"
	"net/textproto"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Asked is a request as policies see it: as it came, or as a backend is sent it. It is made when it is first looked at, as most policies do not; any number may look at once.
type Asked struct {
	server *Server
	trip   *trip
	came   *http.Request    // nobody changes its headers and its URL
	copied *mesh.HTTPMirror // it is a copy
	sent   bool

	once sync.Once
	is   authz.Request
}

// Request is what policies see. What the gateway takes out of a request before anybody gets it, policies do not see either: what belongs to the client's connection, or is listed in Connection, and
// what a stranger says of itself.
func (a *Asked) Request() *authz.Request {
	a.once.Do(a.look)
	return &a.is
}

func (a *Asked) look() {
	out := a.came.WithContext(a.came.Context())
	out.Header = maps.Clone(a.came.Header)
	settle(out, a.trip.visit != nil)
	path, ok := pathOf(a.came.URL)
	if !ok {
		path = a.came.URL.Path
	}
	if a.sent {
		u := *a.came.URL
		out.URL = &u
		a.server.filterRequest(a.trip, out)
		if a.copied != nil {
			changeRequest(out, &a.copied.Backend.Filters.Request)
		}
		a.server.sign(out, a.came)
		path = mesh.PlainEscapes(out.URL.EscapedPath())
	}
	a.is = authz.Request{Authority: out.Host, Method: out.Method, Path: path, Header: out.Header}
}

// settle makes of a request's headers those that are sent on, before filters: without what is about the client's connection and, of one that came from outside of the mesh, with nothing that its
// client says of itself.
func settle(r *http.Request, inside bool) {
	withoutHops(r.Header)
	if !inside {
		setForwarded(r)
		withoutUnproved(r.Header)
	}
}

// trimValues takes the white space around values away, as the library does in HTTP/1.1: it means nothing (RFC 9110, 5.5), and not everybody behind us leaves it there.
func trimValues(h http.Header) {
	for _, values := range h {
		for i, v := range values {
			if v != "" && (v[0] <= ' ' || v[len(v)-1] <= ' ') {
				values[i] = textproto.TrimString(v)
			}
		}
	}
}
