// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A body that is none is its client's fault: no endpoint is blamed for it, and none is asked again.
func TestGarbledBodies(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"no size":           {"zz\r\n", http.StatusBadRequest},
		"a longer chunk":    {"1\r\nxyz\r\n0\r\n\r\n", http.StatusBadRequest},
		"an impossible one": {"fffffffffffffffff\r\n", http.StatusBadRequest},
		"a whole one":       {"2\r\nhi\r\n0\r\n\r\n", http.StatusNoContent},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, in network) {
				s := newSceneIn(t, in, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
					r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &mesh.HTTPRetry{Codes: []uint16{400, 502}, Attempts: 3}
				}))))
				s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.Copy(io.Discard, r.Body); err == nil {
						w.WriteHeader(http.StatusNoContent)
					}
				})
				for range sickAfter {
					nc, from := s.dial()
					nc.SetDeadline(time.Now().Add(patience))
					io.WriteString(nc, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+tc.body)
					r, err := http.ReadResponse(from, nil)
					if err != nil {
						t.Fatalf("%v\n%s", err, s.logs)
					}
					if reason := r.Header.Get(headerReason); r.StatusCode != tc.want || r.StatusCode == http.StatusBadRequest && reason != string(ReasonBadBody) {
						t.Errorf("answered %d %s\n%s", r.StatusCode, reason, s.logs)
					}
					nc.Close()
				}
				if s.server.outliers.some.Load() {
					t.Error("something is known against the endpoint")
				}
				if n := s.counted("isthmus_gateway_http_retries_total", "sent"); n != 0 {
					t.Errorf("%v other attempts", n)
				}
			})
		})
	}
}
