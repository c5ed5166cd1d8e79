// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// leaving tells the clients of a port that drains to go elsewhere. The library closes connections of HTTP/1.1 without a request at once, and a request that was on its way then is
// lost, without an answer that its client could go by: so busy ones are told first, by the answer to their next request.
type leaving struct {
	mu    sync.Mutex
	open  int
	begun bool
	once  sync.Once
	none  chan struct{} // closed when no connection is open after it has begun
}

func newLeaving() *leaving { return &leaving{none: make(chan struct{})} }

// state follows the server's connections.
func (l *leaving) state(_ net.Conn, s http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s {
	case http.StateNew:
		l.open++
	case http.StateHijacked, http.StateClosed:
		if l.open--; l.begun && l.open == 0 {
			l.once.Do(func() { close(l.none) }) // others may come after it
		}
	}
}

// on says whether clients are to be told.
func (l *leaving) on() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// begin has clients be told from now on, and gives them some time for it.
func (l *leaving) begin(ctx context.Context, grace time.Duration) {
	l.mu.Lock()
	first := !l.begun
	l.begun = true
	open := l.open
	l.mu.Unlock()
	if !first || open == 0 {
		return
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-l.none:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// farewell has the client of an answer ask for nothing more on its connection: one of HTTP/1.1 ends with the answer, one of HTTP/2 once its streams have ended.
func farewell(h http.Header) { h.Set("Connection", "close") }
