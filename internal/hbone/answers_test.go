// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// mutable loses what is written to it once it is muted.
type mutable struct {
	net.Conn
	muted atomic.Bool
}

func (m *mutable) Write(p []byte) (int, error) {
	if m.muted.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

func TestAnswers(t *testing.T) {
	near, far := net.Pipe()
	line := &mutable{Conn: near}
	client, err := NewClient(line, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(far, Settings{})
	defer server.Close()
	defer client.Close()
	ask := func(within time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return client.Answers(ctx)
	}
	for range 3 {
		if !ask(10 * time.Second) {
			t.Fatal("a peer that is there did not answer")
		}
	}
	line.muted.Store(true)
	began := time.Now()
	if ask(50*time.Millisecond) || time.Since(began) > 5*time.Second {
		t.Errorf("a peer that hears nothing answered, after %v", time.Since(began))
	}
	if client.Draining() {
		t.Error("to ask is to end it")
	}
	client.Drain()
	if !client.Draining() {
		t.Error("drained, and not draining")
	}
	<-client.Done()
	if ask(10 * time.Second) {
		t.Error("a connection that has ended answered")
	}
}
