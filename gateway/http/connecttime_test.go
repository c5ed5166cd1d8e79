// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A request whose time is up while an endpoint is connected to is answered so, whoever looks at the clock first: a dialer of the library does it itself. The endpoint has not failed.
func TestTimeIsUpWhileConnecting(t *testing.T) { inMemory(t, testTimeIsUpWhileConnecting) }

func testTimeIsUpWhileConnecting(t *testing.T, in network) {
	s := newSceneIn(t, in, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends, r.RequestTimeout = []mesh.HTTPBackend{to("a")}, time.Second
	}))))
	s.endpoint("a", mesh.AppUnknown, netip.MustParseAddrPort("127.0.0.1:1"))
	s.server.o.Carrier = NewTransports(Limits{}, func(ctx context.Context, network, _ string) (net.Conn, error) {
		if deadline, ok := ctx.Deadline(); ok {
			time.Sleep(time.Until(deadline))
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
	})
	client := s.client()
	for range 50 { // which of two that wait for the same moment goes on first is random
		if response, _ := s.ask(client, "GET", "http://x/", ""); response.StatusCode != http.StatusGatewayTimeout || response.Header.Get(headerReason) != string(ReasonTimeout) {
			t.Fatalf("answered %d %s\n%s", response.StatusCode, response.Header.Get(headerReason), s.logs)
		}
	}
	if n := s.counted("isthmus_gateway_http_endpoint_connect_failures_total", ""); n != 0 {
		t.Errorf("%v failures of the endpoint are counted", n)
	}
}
