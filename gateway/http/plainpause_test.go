// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A client that is kept may think for longer than it may take with an answer: the time for one answer is not that for the next, also where its head is larger than what is gathered before it is written.
// That is so whoever reads the requests.
func TestPlainAnswersAfterAPause(t *testing.T) { inMemory(t, testPlainAnswersAfterAPause) }

func testPlainAnswersAfterAPause(t *testing.T, in network) {
	const stall = 500 * time.Millisecond
	var found [2][]string
	for i, by := range []bool{false, true} {
		before := *library
		*library = by
		s := newSceneIn(t, in, Limits{StallTime: stall}, toA())
		*library = before
		s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
			var status int
			fmt.Sscanf(r.URL.Path, "/%d", &status)
			w.Header().Set("Content-Security-Policy", strings.Repeat("x", 2*plainBuffer))
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(status)
		})
		type client struct {
			nc net.Conn
			in *bufio.Reader
		}
		statuses := []int{200, 204, 304, 404}
		clients := make([]client, len(statuses))
		for j := range clients {
			clients[j].nc, clients[j].in = s.dial()
			s.asks(clients[j].nc, clients[j].in, "GET /200 HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		time.Sleep(2 * stall) // the time for the first answers is over
		for j, c := range clients {
			c.nc.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(c.nc, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", statuses[j])
			r, err := http.ReadResponse(c.in, nil)
			if err != nil {
				found[i] = append(found[i], err.Error())
				continue
			}
			found[i] = append(found[i], fmt.Sprint(r.Status, " ", len(r.Header.Get("Content-Security-Policy"))))
		}
	}
	if want := []string{"200 OK 8192", "204 No Content 8192", "304 Not Modified 8192", "404 Not Found 8192"}; !slices.Equal(found[0], want) || !slices.Equal(found[1], want) {
		t.Errorf("answered %q, and by the library %q, want %q", found[0], found[1], want)
	}
}
