// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A request whose time is over is answered then, and its connection ended, although the client has sent only a part of its body and keeps the rest to itself.
func TestTimeIsUpDuringAnUpload(t *testing.T) {
	for name, limit := range map[string]func(*mesh.HTTPRule){
		"of the request": func(r *mesh.HTTPRule) { r.RequestTimeout = 50 * time.Millisecond },
		"of the backend": func(r *mesh.HTTPRule) { r.BackendTimeout = 50 * time.Millisecond },
		"of the request, with another attempt": func(r *mesh.HTTPRule) {
			r.RequestTimeout, r.Retry = 50*time.Millisecond, &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 1}
		},
	} {
		for _, sent := range []string{"Content-Length: 1000\r\n\r\nx", "Content-Length: 10000000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"} {
			t.Run(name, func(t *testing.T) {
				s := newScene(t, Limits{StallTime: 10 * patience}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
					r.Backends = []mesh.HTTPBackend{to("a")}
					limit(r)
				}))))
				s.backend("a", mesh.AppUnknown, says("a"))
				nc, err := net.Dial("tcp", s.address)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(patience))
				fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: x\r\n"+sent)
				reader := bufio.NewReader(nc)
				response, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatalf("%v\n%s", err, s.logs)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != http.StatusGatewayTimeout || response.Header.Get(headerReason) != string(ReasonTimeout) {
					t.Errorf("answered %d %s", response.StatusCode, response.Header.Get(headerReason))
				}
				if _, err := reader.ReadByte(); err != io.EOF {
					t.Errorf("the connection goes on: %v", err)
				}
			})
		}
	}
}
