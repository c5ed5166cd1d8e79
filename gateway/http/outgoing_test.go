// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"testing"
)

// A connection tells nobody of its end whose request has been answered: it would hold all that belongs to the last upload for as long as it is kept. It may be another upload's by the time that the one before it knows of its answer.
func TestConnectionsForgetUploads(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	conn := &endingConn{Conn: near}
	goes := func() *outgoing {
		o := &outgoing{ReadCloser: io.NopCloser(nil), giveUp: func() {}}
		o.goes(httptrace.GotConnInfo{Conn: conn})
		return o
	}
	first := goes()
	if conn.of != first {
		t.Error("it does not know the upload that it carries")
	}
	second := goes()
	first.settle()
	if conn.of != second {
		t.Error("it has forgotten the upload after the one that was answered")
	}
	second.settle()
	if conn.of != nil {
		t.Error("it is kept with what it carried last")
	}
	third := goes()
	far.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	if _, err := third.Read(nil); !errors.Is(err, errEndpointLeft) {
		t.Errorf("the upload is not told of the end: %v", err)
	}
}
