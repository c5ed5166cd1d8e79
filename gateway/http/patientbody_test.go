// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The goroutine of a Transport may ask for more of a request's body after the handler is done, and much later. There is no more, and in HTTP/2 nothing that could have a deadline.
func TestBodyReadAfterItsHandler(t *testing.T) {
	inMemory(t, func(t *testing.T, in network) {
		socket, err := in.listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		handled := make(chan *patientBody, 1)
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := &patientBody{body: r.Body, close: r.Body.Close, control: http.NewResponseController(w), stall: time.Second, now: time.Now, stalled: &atomic.Bool{}, turn: make(chan struct{}, 1)}
			if n, err := b.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("%d bytes came, %v", n, err)
			}
			b.Close()
			handled <- b
		})}
		go server.Serve(socket)
		defer server.Close()
		transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return in.dial(ctx, network, socket.Addr().String())
		}}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		b := <-handled
		synctest.Wait()                                               // the server has forgotten the request
		b.now = func() time.Time { return time.Now().Add(time.Hour) } // so that its client would have to have more time
		if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errCutBody) {
			t.Errorf("%d bytes came, %v", n, err)
		}
	})
}
