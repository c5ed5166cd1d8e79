// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A backend that would take more requests on the client's connection, in HTTP/2 or in TLS, is not asked to: what comes in it would pass all rules by.
func TestNoUpgradeToRequests(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("HTTP2-Settings") != "" {
			t.Error("settings of HTTP/2 reached the backend")
		}
		if r.Header.Get("Upgrade") == "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	for upgrade, want := range map[string]int{"h2c": 204, "H2C": 204, "websocket, h2c": 204, "HTTP/2.0": 204, "TLS/1.2": 204, "websocket": 101} {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		// The settings are not named in Connection, where a proxy would find them to be for itself only.
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "+upgrade+"\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", upgrade, err)
		}
		if response.StatusCode != want {
			t.Errorf("%s: answered %d, want %d", upgrade, response.StatusCode, want)
		}
		response.Body.Close()
		conn.Close()
	}
}
