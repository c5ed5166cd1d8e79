// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
)

// mostAnew bounds how often a request is sent once more to an endpoint that has not looked at it.
const mostAnew = 2

// errNotKept means that an endpoint has not looked at a request, which could be sent again if more of its body were kept.
var errNotKept = errors.New("the endpoint has not processed the request, and its body is not kept")

// anew gives a request's body from its beginning, to who sends it once more in the same attempt: an endpoint that speaks HTTP/2 says what it has not processed (RFC 9113, 8.7), whatever it is. The library asks for
// it then only, and would for a minute: twice is enough of an endpoint that is leaving, and those that have no room are not to be asked again and again. Whoever read it before reads nothing any more.
func (p *replay) anew(closes io.Closer) func() (io.ReadCloser, error) {
	asked := 0 // by one goroutine at a time
	return func() (io.ReadCloser, error) {
		if asked++; asked > mostAnew || !p.rewind() {
			return nil, errNotKept
		}
		return turned{p.turn(), closes}, nil
	}
}

// turned is a turn that closes what its body was before.
type turned struct {
	io.Reader
	io.Closer
}
