// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Clients that ask all the time, on connections that they keep, are told to leave by an answer, and none of their requests goes without one.
func TestDrainTellsClients(t *testing.T) {
	s := newScene(t, Limits{LeaveTime: patience}, listener("web", "", route("r", nil, with(rule("all", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	s.backend("a", mesh.AppUnknown, func(http.ResponseWriter, *http.Request) {})
	var clients, asking sync.WaitGroup
	for range 30 {
		asking.Add(1)
		clients.Go(func() {
			nc, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Error(err)
				asking.Done()
				return
			}
			defer nc.Close()
			in := bufio.NewReader(nc)
			for n := 0; ; n++ {
				var response *http.Response
				if _, err = fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi"); err == nil {
					response, err = http.ReadResponse(in, nil)
				}
				if n == 0 {
					asking.Done()
				}
				if err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
				response.Body.Close()
				if response.Close {
					return
				}
			}
		})
	}
	asking.Wait()
	s.drain()
	clients.Wait()
}
