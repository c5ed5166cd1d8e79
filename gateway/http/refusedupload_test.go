// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// unfinished are the ends of heads of uploads, with what is there of their bodies.
var unfinished = map[string]string{
	"sized": "Content-Length: 1000\r\n\r\nx", "large": "Content-Length: 10000000\r\n\r\nx", "chunked": "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
	"asked for": "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n", "asked for, chunked": "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
}

// refusals are listeners whose gateway answers itself, with the status.
func refusals() map[int]mesh.Listener {
	does := func(f mesh.HTTPFilters) mesh.Listener {
		return listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Filters, r.Backends = f, []mesh.HTTPBackend{to("a")} })))
	}
	return map[int]mesh.Listener{
		http.StatusNotFound:           listener("web", ""),
		http.StatusServiceUnavailable: toA(),
		http.StatusFound:              does(mesh.HTTPFilters{Redirect: &mesh.HTTPRedirect{Scheme: "https", Status: http.StatusFound}}),
		http.StatusNoContent:          does(mesh.HTTPFilters{CORS: &mesh.CORS{Origins: []string{"*"}}}),
	}
}

// asksLeave begins a request that each of them answers.
const asksLeave = "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: http://y\r\nAccess-Control-Request-Method: GET\r\n"

// Who is refused is told at once, however little of the body is there, and is listened to for a moment only: neither the connection nor a drain lasts longer.
func TestRefusedUploadEnds(t *testing.T) {
	for status, l := range refusals() {
		for kind, rest := range unfinished {
			t.Run(http.StatusText(status)+", "+kind, func(t *testing.T) {
				inMemory(t, func(t *testing.T, in network) {
					s := newSceneIn(t, in, Limits{}, l)
					nc, from := s.dial()
					began := time.Now()
					if r, _ := s.asks(nc, from, asksLeave+rest); r.StatusCode != status {
						t.Errorf("answered %s", r.Status)
					}
					if took := time.Since(began); took > 0 {
						t.Errorf("answered after %v", took)
					}
					s.drain()
					if _, err := from.ReadByte(); !errors.Is(err, io.EOF) {
						t.Errorf("the connection goes on: %v", err)
					}
					if took := time.Since(began); took > lingerTime+time.Second {
						t.Errorf("the drain took %v", took)
					}
				})
			})
		}
	}
}

// A small body of known size that is there, or comes in time, does not cost a refused client its connection.
func TestRefusedUploadKeepsItsConnection(t *testing.T) {
	const head, rest = "Content-Length: 5\r\n\r\nhe", "llo"
	for status, l := range refusals() {
		t.Run(http.StatusText(status), func(t *testing.T) {
			inMemory(t, func(t *testing.T, in network) {
				s := newSceneIn(t, in, Limits{}, l)
				nc, from := s.dial()
				for range 2 {
					if r, _ := s.asks(nc, from, asksLeave+head+rest); r.StatusCode != status || r.Close {
						t.Errorf("all of it there: answered %s, close %v", r.Status, r.Close)
					}
					if r, _ := s.asks(nc, from, asksLeave+head); r.StatusCode != status || r.Close {
						t.Errorf("some of it there: answered %s, close %v", r.Status, r.Close)
					}
					time.Sleep(lingerTime / 2)
					if _, err := io.WriteString(nc, rest); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// One in chunks does: they may end in a way that leaves open where the next request begins, which the library does not look at any more.
func TestRefusedChunksEndTheirConnection(t *testing.T) {
	const next = "GET /another HTTP/1.1\r\nHost: x\r\n\r\n"
	for status, l := range refusals() {
		for kind, rest := range map[string]string{"well": "0\r\n\r\n", "with a line that is no trailer": "0\r\nno trailer\r\n", "with a name that is none": "0\r\nno name: 1\r\n"} {
			t.Run(http.StatusText(status)+", they end "+kind, func(t *testing.T) {
				inMemory(t, func(t *testing.T, in network) {
					s := newSceneIn(t, in, Limits{}, l)
					nc, from := s.dial()
					nc.SetDeadline(time.Now().Add(patience))
					if r, _ := s.asks(nc, from, asksLeave+"Transfer-Encoding: chunked\r\n\r\n"+rest+next); r.StatusCode != status || !r.Close {
						t.Errorf("answered %s, close %v", r.Status, r.Close)
					}
					if r, err := http.ReadResponse(from, nil); err == nil {
						t.Errorf("there is another answer: %s", r.Status)
					}
				})
			})
		}
	}
}

// A client that sends all of a large body before it looks at the answer has the answer, and is told that the connection ends.
func TestRefusedUploadIsHeard(t *testing.T) {
	for status, l := range refusals() {
		if status == http.StatusNoContent {
			continue // the library listens to who is answered without a length, for less
		}
		t.Run(http.StatusText(status), func(t *testing.T) {
			inMemory(t, func(t *testing.T, in network) {
				s := newSceneIn(t, in, Limits{}, l)
				nc, from := s.dial()
				if r, _ := s.asks(nc, from, asksLeave+"Content-Length: 1000000\r\n\r\n"+strings.Repeat("x", 1_000_000)); r.StatusCode != status || !r.Close {
					t.Errorf("answered %s, close %v", r.Status, r.Close)
				}
			})
		})
	}
}

// Who goes on sending after the answer is heard for a while only, however fast: what was on its way when the answer came, and no more.
func TestRefusedUploadIsHeardInBounds(t *testing.T) {
	for kind, frame := range map[string][2]string{
		"sized":   {"Content-Length: 1000000000000\r\n\r\n", strings.Repeat("x", 64<<10)},
		"chunked": {"Transfer-Encoding: chunked\r\n\r\n", "10000\r\n" + strings.Repeat("x", 64<<10) + "\r\n"},
	} {
		for status, l := range refusals() {
			t.Run(http.StatusText(status)+", "+kind, func(t *testing.T) {
				inMemory(t, func(t *testing.T, in network) {
					s := newSceneIn(t, in, Limits{}, l)
					nc, from := s.dial()
					began := time.Now()
					if r, _ := s.asks(nc, from, asksLeave+frame[0]); r.StatusCode != status || !r.Close {
						t.Errorf("answered %s, close %v", r.Status, r.Close)
					}
					sent := 0
					for err := error(nil); err == nil && sent < 4*lingerBytes; sent += len(frame[1]) {
						_, err = io.WriteString(nc, frame[1])
					}
					if sent > lingerBytes+lingerBytes/4 {
						t.Errorf("%d bytes are heard", sent)
					}
					if took := time.Since(began); took > lingerTime+time.Second {
						t.Errorf("it takes %v", took)
					}
				})
			})
		}
	}
}
