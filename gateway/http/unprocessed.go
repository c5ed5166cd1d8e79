// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	// mostAnew bounds how often a request is sent once more to an endpoint that has not looked at it: twice is enough of one that is leaving, and those that have no room are not to be asked again and again.
	mostAnew = 2
	// anewAfter is the time before the second of them. The first is sent at once: the endpoint may have left the connection only.
	anewAfter = time.Second
)

// errUnprocessed means that an endpoint has not looked at a request, of which nothing more can be sent or must.
var errUnprocessed = errors.New("the endpoint has not processed the request, and its body is not kept")

// unprocessed is where the library asks for the body anew, which it does of what an endpoint that speaks HTTP/2 says it has not processed (RFC 9113, 8.7), only. We send that again ourselves.
func unprocessed() (io.ReadCloser, error) { return nil, errUnprocessed }

// carry sends a request whose body this is, and may send it to the same endpoint again in the same attempt, whatever it is. Who read the body before does so no more, or for who comes after it.
func (p *replay) carry(by Carrier, to Endpoint, r *http.Request, closes io.Closer) (*http.Response, error) {
	r.GetBody = unprocessed
	for again := range mostAnew + 1 {
		if again > 1 && !sleep(r.Context(), anewAfter) {
			return nil, context.Cause(r.Context())
		}
		if again > 0 && !p.anew(r, closes) {
			break
		}
		response, err := by.Carry(to, r)
		if err == nil || !errors.Is(err, errUnprocessed) {
			return response, err
		}
	}
	return nil, errUnprocessed
}

// anew gives a request the body from its beginning, and says whether that is possible.
func (p *replay) anew(r *http.Request, closes io.Closer) bool {
	if !p.rewind() {
		return false
	}
	r.Body = turned{p.turn(), closes}
	return true
}

// turned is a turn that closes what its body was before.
type turned struct {
	io.Reader
	io.Closer
}
