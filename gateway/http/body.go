// SPDX-License-Identifier: Apache-2.0

package http

import "io"

// endingBody calls end when a body is closed. A body that can be written to, as that of an upgraded connection, stays one.
func endingBody(body io.ReadCloser, end func()) io.ReadCloser {
	if w, ok := body.(io.Writer); ok {
		return &endingPipe{ended{body, end}, w}
	}
	return &ended{body, end}
}

type ended struct {
	io.ReadCloser
	end func()
}

// Close ends.
func (e *ended) Close() error {
	err := e.ReadCloser.Close()
	e.end()
	return err
}

type endingPipe struct {
	ended
	io.Writer
}
