// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What a backend that speaks HTTP/2 says it has not looked at may be sent again, whatever it is (RFC 9113, 8.7): by another connection, or the same one, or to another endpoint, and whole.
func TestRequestsThatABackendHasNotSeen(t *testing.T) {
	const whole = "hello"
	for name, refuse := range map[string]func(f *http2.Framer, stream uint32, leave func()){
		"it ends its connection": func(f *http2.Framer, _ uint32, _ func()) { f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"it ends altogether": func(f *http2.Framer, _ uint32, leave func()) {
			leave()
			f.WriteGoAway(0, http2.ErrCodeNo, nil)
		},
		"it has no room now": func(f *http2.Framer, stream uint32, _ func()) { f.WriteRSTStream(stream, http2.ErrCodeRefusedStream) },
	} {
		for kind, tc := range map[string]struct {
			body  io.Reader
			retry *mesh.HTTPRetry
		}{
			"without a body":        {nil, nil},
			"of known length":       {strings.NewReader(whole), nil},
			"of unknown length":     {struct{ io.Reader }{strings.NewReader(whole)}, nil},
			"with attempts left":    {strings.NewReader(whole), &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}},
			"with no attempts left": {strings.NewReader(whole), &mesh.HTTPRetry{Codes: []uint16{503}}},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
					r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, tc.retry
				}))))
				socket, err := s.network.listen(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer socket.Close()
				leave := func() {
					socket.Close()
					s.backend("a", mesh.AppHTTP2, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
				}
				go func() {
					for refused := false; ; refused = true {
						nc, err := socket.Accept()
						if err != nil {
							return
						}
						go refusesFirst(nc, refused, func(f *http2.Framer, stream uint32) { refuse(f, stream, leave) })
					}
				}()
				s.endpoint("a", mesh.AppHTTP2, socket.Addr().(*net.TCPAddr).AddrPort())
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", tc.body)
				if err != nil {
					t.Fatal(err)
				}
				response, err := s.client().Do(r)
				if err != nil {
					t.Fatalf("%v\n%s", err, s.logs)
				}
				defer response.Body.Close()
				got, err := io.ReadAll(response.Body)
				status, want := http.StatusOK, whole
				switch {
				case name == "it ends altogether" && tc.retry != nil && tc.retry.Attempts == 0: // no other endpoint is asked
					status, want = http.StatusServiceUnavailable, "503 connect_failed\n"
				case tc.body == nil:
					want = ""
				}
				if response.StatusCode != status || string(got) != want || err != nil {
					t.Errorf("answered %s, %q, %v\n%s", response.Status, got, err, s.logs)
				}
				s.drain()
				if n := s.server.unprocessed.inUse() + s.server.replayed.inUse(); n != 0 {
					t.Errorf("%d bytes of memory were not given back", n)
				}
			})
		}
	}
}

// refusesFirst serves a connection in HTTP/2 whose first request is refused once it has come whole, unless one was before; all others are answered with their bodies.
func refusesFirst(nc net.Conn, refused bool, refuse func(f *http2.Framer, stream uint32)) {
	defer nc.Close()
	if _, err := io.CopyN(io.Discard, nc, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(nc, nc)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	bodies := map[uint32][]byte{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.WriteSettingsAck()
			}
			continue
		case *http2.DataFrame:
			bodies[frame.StreamID] = append(bodies[frame.StreamID], frame.Data()...)
			if !frame.StreamEnded() {
				continue
			}
		case *http2.MetaHeadersFrame:
			if !frame.StreamEnded() {
				continue
			}
		default:
			continue
		}
		stream := frame.Header().StreamID
		if !refused {
			refused = true
			refuse(f, stream)
			continue
		}
		var head bytes.Buffer
		hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true})
		f.WriteData(stream, true, bodies[stream])
	}
}
