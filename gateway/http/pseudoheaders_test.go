// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What a client of HTTP/2 says in one place would be something else in the line of a request in HTTP/1.1, and rules have judged it where it was: what is no method, no target or no host is refused.
func TestPseudoHeadersThatAreMore(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path, authority string
		reason                  Reason // none: a backend answers
	}{
		"a method with a target":         {"GET /admin?", "/public", "x", ReasonMethod},
		"a method with a tab":            {"GET\t/admin", "/public", "x", ReasonMethod},
		"a query with a version":         {"GET", "/public?a HTTP/1.1", "x", ReasonBadPath},
		"a query with a space":           {"POST", "/public?a b", "x", ReasonBadPath},
		"a host of two words":            {"GET", "/public", "x y", ReasonBadHost},
		"CONNECT to two words":           {"CONNECT", "", "x:1 y", ReasonBadHost},
		"a method of one's own":          {"get-all", "/public", "x", ""},
		"what is encoded":                {"GET", "/public%20a?b%20c+d", "x", ""},
		"a target with what is not text": {"GET", "/public?ü", "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, in network) {
				s := newSceneIn(t, in, Limits{}, toA())
				var asked atomic.Int32
				s.backend("a", mesh.AppUnknown, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
				nc, from := s.dial()
				io.WriteString(nc, http2.ClientPreface)
				f := http2.NewFramer(nc, from)
				f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				f.WriteSettings()
				var head bytes.Buffer
				e := hpack.NewEncoder(&head)
				e.WriteField(hpack.HeaderField{Name: ":method", Value: tc.method})
				if e.WriteField(hpack.HeaderField{Name: ":authority", Value: tc.authority}); tc.path != "" {
					e.WriteField(hpack.HeaderField{Name: ":scheme", Value: "http"})
					e.WriteField(hpack.HeaderField{Name: ":path", Value: tc.path})
				}
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true})
				var answer *http2.MetaHeadersFrame
				for answer == nil {
					frame, err := f.ReadFrame()
					if err != nil {
						t.Fatalf("%v\n%s", err, s.logs)
					}
					if reset, ok := frame.(*http2.RSTStreamFrame); ok {
						t.Fatalf("reset with %v", reset.ErrCode)
					}
					answer, _ = frame.(*http2.MetaHeadersFrame)
				}
				status := answer.PseudoValue("status")
				if tc.reason == "" {
					if status != "200" || asked.Load() != 1 {
						t.Errorf("answered %s, and the backend was asked %d times", status, asked.Load())
					}
					return
				}
				if status != "400" || asked.Load() != 0 {
					t.Errorf("answered %s, and the backend was asked %d times", status, asked.Load())
				}
				s.drain()
				n := s.counted("isthmus_gateway_http_requests_total", string(tc.reason))
				if n != 1 || !strings.Contains(s.logs.String(), fmt.Sprintf(`"reason":%q`, tc.reason)) {
					t.Errorf("%v are counted\n%s", n, s.logs)
				}
			})
		})
	}
}
