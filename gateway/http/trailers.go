// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"maps"
	"net/http"
)

// settleTrailers makes of a request's trailers those that are sent on, as settle does of its headers. The server puts them where it put their names, announced or not, when it has read the body: what is sent on
// has a place of its own, which whoever reads the body writes to. Who sends it more than once gives each attempt another one (see replay).
func settleTrailers(r *http.Request, inside bool) {
	if len(r.Trailer) == 0 {
		return
	}
	body := &trailed{ReadCloser: r.Body, came: r.Trailer, inside: inside}
	body.sent = body.settled()
	r.Trailer = body.sent
	if r.Body != nil {
		r.Body = body
	}
}

// trailed is a body that brings trailers.
type trailed struct {
	io.ReadCloser
	came, sent http.Header
	inside     bool
}

// Read gives the body, and at its end the trailers.
func (b *trailed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && len(b.sent) > 0 {
		maps.Copy(b.sent, b.settled())
	}
	return n, err
}

// settled are those that have come, without what is about the connection and, from outside of the mesh, what the client says of itself.
func (b *trailed) settled() http.Header {
	h := maps.Clone(b.came)
	withoutHops(h)
	if !b.inside {
		withoutUnproved(h)
		for _, name := range forwarded {
			delete(h, name)
		}
	}
	return h
}
