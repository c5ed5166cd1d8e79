// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// shop is an application in a pod, which takes a moment for each request and answers with a word.
type shop struct {
	*Pod
	word string
	// sick has it answer 503.
	sick atomic.Bool
	// broken counts the requests that it had begun with when it, or the way to it, died.
	broken atomic.Int64

	busy    atomic.Int64 // requests that it is at
	server  *http.Server
	serving sync.WaitGroup
}

// shopTime is what it takes for a request.
const shopTime = 5 * time.Millisecond

// openShop begins to serve; it is closed with the test.
func openShop(ctx context.Context, t *testing.T, p *Pod, word string) *shop {
	t.Helper()
	s := &shop{Pod: p, word: word}
	s.open(ctx, t)
	t.Cleanup(s.die)
	return s
}

// open serves, again if it died.
func (s *shop) open(ctx context.Context, t *testing.T) {
	t.Helper()
	l, err := s.Listen(ctx, "tcp", "0.0.0.0:80")
	must(t, err)
	s.server = &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(s.answer)}
	s.serving.Go(func() { _ = s.server.Serve(l) }) // says that it was closed
}

func (s *shop) answer(w http.ResponseWriter, r *http.Request) {
	s.busy.Add(1)
	defer s.busy.Add(-1)
	if s.sick.Load() {
		http.Error(w, "sick", http.StatusServiceUnavailable)
		return
	}
	select {
	case <-time.After(shopTime):
		fmt.Fprint(w, s.word)
	case <-r.Context().Done():
		s.broken.Add(1)
	}
}

// die breaks all connections, as a process does that is killed.
func (s *shop) die() {
	s.server.Close()
	s.serving.Wait()
	for s.busy.Load() > 0 { // each hears of it at once
		runtime.Gosched()
	}
}
