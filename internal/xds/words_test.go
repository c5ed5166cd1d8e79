// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"fmt"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestInventedNamesAreBounded: whoever has a token of the mesh may ask for anything, and say that it holds anything, on many streams, and does not have all of it kept.
func TestInventedNamesAreBounded(t *testing.T) {
	const names, weight = 200, 1000
	callers := map[string]Caller{
		"proxy":  {Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy", PodUID: "np", Node: "node-7"},
		"tenant": {Namespace: "tenant", ServiceAccount: "default", PodUID: "u", Node: "node-7"},
		"other":  {Namespace: "other", ServiceAccount: "default", PodUID: "w", Node: "node-7"},
		"third":  {Namespace: "third", ServiceAccount: "default", PodUID: "x", Node: "node-7"},
	}
	invented, known := make([]string, names), map[string]string{"a": "another version"}
	for i := range invented {
		name := fmt.Sprint(i)
		invented[i] = name + strings.Repeat("x", weight-wordWeight-len(name))
		known[invented[i]] = ""
	}
	for what, request := range map[string]*discovery.DeltaDiscoveryRequest{
		"held":      {TypeUrl: addressURL, InitialResourceVersions: known},
		"asked for": {TypeUrl: addressURL, ResourceNamesSubscribe: append([]string{"*"}, invented...)},
	} {
		t.Run(what, func(t *testing.T) {
			s := ready(t, ServerOptions{
				Proxies: func(c Caller) bool { return c.ServiceAccount == "isthmus-nodeproxy" },
				Authenticate: func(ctx context.Context) (Caller, error) {
					token, _, err := Credentials(ctx)
					return callers[token], err
				},
			})
			s.words = newWords(names*weight*3/2, names*weight*5/2)
			server := start(t, "", s)
			server.Update(workloads(pod("a", "", "")))
			say := func(as string) *script {
				c := dialScript(t, server.addr, as)
				c.say(request)
				return c
			}
			heard := func(as string) (*script, *discovery.DeltaDiscoveryResponse) {
				t.Helper()
				c := say(as)
				r := c.hear()
				if len(r.GetResources()) != 1 || len(r.GetRemovedResources()) != names {
					t.Fatalf("%s heard of %d resources, and that %d are not there", as, len(r.GetResources()), len(r.GetRemovedResources()))
				}
				return c, r
			}
			refused := func(as string) {
				t.Helper()
				if err := say(as).end(); status.Code(err) != codes.ResourceExhausted {
					t.Errorf("%s: the stream ended with %v", as, err)
				}
			}
			first, _ := heard("tenant")
			refused("tenant") // its own are too many
			second, told := heard("other")
			refused("third") // those of all are
			if got := counter(s.metrics.refused); got != 2 {
				t.Errorf("%v are counted, want 2", got)
			}
			for range 3 {
				heard("proxy")
			}
			// What is only said to be held is not kept any more once it was told to be gone.
			second.ack(told)
			kept := 0
			if what == "asked for" {
				kept = names * weight
			}
			eventually(t, "what was told is kept only if it was asked for", func() bool {
				s.words.mu.Lock()
				defer s.words.mu.Unlock()
				return s.words.of[callers["other"].owner()] == kept
			})
			for _, c := range []*script{first, second} {
				if err := c.stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "nothing is kept for streams that ended", func() bool {
				s.words.mu.Lock()
				defer s.words.mu.Unlock()
				return s.words.all == 0 && len(s.words.of) == 0
			})
			heard("third")
		})
	}
}
