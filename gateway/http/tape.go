// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// tape is what comes of a connection in HTTP/1.1 to an endpoint that one of the library's Transports reads, as far as the heads of a request's answers may list what belongs to the connection: the library
// takes the list away when the connection ends with the answer. There is hardly ever any of it. A nil one has nothing.
type tape struct {
	mu   sync.Mutex // hold for all below
	on   *endingConn
	came []byte // at most a head, and what the library has read ahead with its end
	over bool   // nothing that comes matters
}

// goes says by which connection the request does.
func (t *tape) goes(by httptrace.GotConnInfo) {
	conn, ok := by.Conn.(*endingConn)
	if !ok {
		return
	}
	t.mu.Lock()
	before := t.on
	t.on, t.came, t.over = conn, nil, false
	t.mu.Unlock()
	if before != nil { // it was over before it could be used
		before.tape.CompareAndSwap(t, nil)
	}
	conn.tape.Store(t)
}

// add is told what has come.
func (t *tape) add(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.came) == 0 && !t.over {
		ends, whole := endsConnection(b)
		t.over = whole && !ends && !isInterim(b)
	}
	if !t.over {
		t.came = append(t.came, b...)
	}
}

// next gives an answer whose head the library has read its list back. It is called for each, those of 1xx too.
func (t *tape) next(answer http.Header) {
	t.mu.Lock()
	head := t.came[:endOfHead(t.came)]
	t.came = t.came[len(head):]
	t.mu.Unlock()
	if ends, _ := endsConnection(head); !ends {
		return
	}
	if list := connectionList(head); len(list) > 0 {
		answer["Connection"] = list
	}
}

// end says that there will be no other answer. The connection may be another request's by now.
func (t *tape) end() {
	t.mu.Lock()
	on := t.on
	t.on, t.came, t.over = nil, nil, true
	t.mu.Unlock()
	if on != nil {
		on.tape.CompareAndSwap(t, nil)
	}
}

// endOfHead is where the head of an answer ends that begins here.
func endOfHead(b []byte) int {
	at := 0
	for {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return len(b)
		}
		line := bytes.TrimSuffix(b[at:at+n], []byte("\r"))
		if at += n + 1; len(line) == 0 {
			return at
		}
	}
}

// isInterim says whether an answer that begins here is one of 1xx.
func isInterim(b []byte) bool {
	_, status, _ := bytes.Cut(b, []byte(" "))
	return bytes.HasPrefix(bytes.TrimLeft(status, " "), []byte("1"))
}
