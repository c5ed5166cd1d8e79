// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What a client does not take stays with the backend, but for a bounded part of each answer, and others that use the same connection to the backend do not wait for it.
func TestAnswersThatNobodyTakes(t *testing.T) {
	inMemory(t, func(t *testing.T, in network) {
		s := newSceneIn(t, in, Limits{}, toA())
		const size, requests = 8 << 20, 100
		piece := []byte(strings.Repeat("x", 16<<10))
		var sent atomic.Int64
		s.backend("a", mesh.AppHTTP2, func(w http.ResponseWriter, r *http.Request) {
			for range size / len(piece) {
				n, err := w.Write(piece)
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		})
		s.clientOfHTTP2(16<<10, func(c *http.Transport) {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			for range requests {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://x/", nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := c.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
			}
			synctest.Wait()
			// Besides the window there are the buffer that an answer is copied through, what the client takes, and what the backend's library holds.
			if held := sent.Load() / requests; held > answerWindow+128<<10 {
				t.Errorf("%d KiB of each answer have left the backend", held>>10)
			}
			if _, text := s.ask(s.client(), http.MethodGet, "http://x/", ""); len(text) != size {
				t.Errorf("another client has %d of %d bytes", len(text), size)
			}
		})
	})
}

// clientOfHTTP2 lends a client of the port that takes so much of an answer, in bytes, before somebody reads it.
func (s *scene) clientOfHTTP2(window int, use func(*http.Transport)) {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	c := &http.Transport{Protocols: protocols, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: window}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.network.dial(ctx, network, s.address)
	}}
	defer c.CloseIdleConnections()
	use(c)
}
