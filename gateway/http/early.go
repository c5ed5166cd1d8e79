// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
)

// early hands answers of 1xx on to a client, until the real one is there or the request is over: who reads from the backend may go on after that.
type early struct {
	mu   sync.Mutex
	w    *answer
	over bool
}

// tell sends one.
func (e *early) tell(status int, header textproto.MIMEHeader) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return nil
	}
	withoutHops(http.Header(header))
	h := e.w.Header()
	before := h.Clone()
	handOn(h, http.Header(header))
	e.w.WriteHeader(status)
	clear(h) // it is not for what follows
	handOn(h, before)
	return nil
}

func (e *early) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}

// earlyOf is what hands 1xx on for a request; nil: nobody does.
func earlyOf(ctx context.Context) func(status int, header textproto.MIMEHeader) error {
	if t := tripOf(ctx); t != nil && t.early != nil {
		return t.early.tell
	}
	if trace := httptrace.ContextClientTrace(ctx); trace != nil {
		return trace.Got1xxResponse
	}
	return nil
}

// withEarly has a request, in a context of its own, tell of 1xx in the library's way, its body, if it has one, of the endpoint, and heads, if not nil, of what comes of that. Those of one that asks for another protocol the library's proxy hands on, when we have seen them.
func withEarly(ctx context.Context, r *http.Request, body *outgoing, heads *tape) *http.Request {
	t := tripOf(ctx)
	if t == nil {
		return r
	}
	tell := func(_ int, header textproto.MIMEHeader) error {
		withoutHops(http.Header(header))
		return nil
	}
	if t.early != nil {
		tell = t.early.tell
	}
	var trace *httptrace.ClientTrace
	if body != nil {
		trace = &body.trace
		trace.GotConn = body.goes
	} else {
		trace = &httptrace.ClientTrace{}
	}
	trace.Got1xxResponse = tell
	if heads != nil {
		trace.Got1xxResponse = func(status int, header textproto.MIMEHeader) error {
			heads.next(http.Header(header))
			return tell(status, header)
		}
		trace.GotConn = func(by httptrace.GotConnInfo) {
			if body != nil {
				body.goes(by)
			}
			heads.goes(by)
		}
	}
	r = r.WithContext(httptrace.WithClientTrace(ctx, trace))
	if body != nil {
		r.Body = body
	}
	return r
}
