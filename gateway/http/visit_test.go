// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// halves is a connection in memory, whose directions end together.
type halves struct{ net.Conn }

func (h halves) CloseWrite() error { return h.Close() }

// Connections that arrive during a drain are served, each for one request, until there can be none any more.
func TestInsideServesLateArrivals(t *testing.T) {
	s := newScene(t, Limits{}, mesh.Listener{Name: "web", Port: 80, Protocol: mesh.ListenerHTTP})
	inside := s.server.NewInside()
	visit := func() (net.Conn, chan error) {
		here, there := net.Pipe()
		done := make(chan error, 1)
		table := NewTable(nil)
		go func() {
			done <- inside.Serve(t.Context(), relay.Conn(halves{there}), &Visit{Table: func() *Table { return table }, Admit: func(*Asked) error { return nil }})
		}()
		return here, done
	}
	ask := func(conn net.Conn) *http.Response {
		t.Helper()
		go func() { _, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: cart\r\n\r\n")) }()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response
	}
	early, earlyDone := visit()
	if response := ask(early); response.Close {
		t.Error("a connection does not stay although nobody drains")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	inside.Drain(ctx)
	if err := <-earlyDone; err != nil {
		t.Errorf("an idle connection ended with %v", err)
	}
	late, lateDone := visit()
	if response := ask(late); !response.Close || response.StatusCode != http.StatusNotFound || !strings.Contains(response.Header.Get(headerReason), string(ReasonNoListener)) {
		t.Errorf("a late connection is answered %d, close=%v", response.StatusCode, response.Close)
	}
	if err := <-lateDone; err != nil {
		t.Errorf("a late connection ended with %v", err)
	}
	inside.Close(ctx)
	if _, done := visit(); !errors.Is(<-done, net.ErrClosed) {
		t.Error("a connection is served although all is over")
	}
}
