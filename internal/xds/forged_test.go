// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestAcknowledgementsOfWhatWasNotRead: one that reads nothing and acknowledges what it guesses would have its turns back at once, and be sent any number of large responses, which
// lie in this process.
func TestAcknowledgementsOfWhatWasNotRead(t *testing.T) {
	s := ready(t, ServerOptions{AckTimeout: time.Hour, TurnTimeout: time.Hour, Authenticate: callersByToken})
	s.large, s.largeFrom = newTurns(4), 2
	server := start(t, "", s)
	many := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for i := range 5000 {
		w := pod(fmt.Sprintf("%0200d", i), "", "")
		many.Workloads[w.UID] = w
	}
	server.Update(many)
	const streams = 6
	for range streams {
		deaf, conn := dialDeaf(t, server.addr, "thief@node-1")
		t.Cleanup(func() { _ = conn.Close() })
		if err := deaf.Send(wildcard(addressURL)); err != nil {
			t.Fatal(err)
		}
		for guess := range 64 {
			if err := deaf.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResponseNonce: fmt.Sprint(guess)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "they are all in line", func() bool {
		s.large.mu.Lock()
		defer s.large.mu.Unlock()
		return len(s.large.held) == 1 && len(s.large.waiting) == streams-1
	})
	c := dialScript(t, server.addr, "proxy@node-2")
	c.say(wildcard(addressURL))
	c.ack(c.hear())
}
