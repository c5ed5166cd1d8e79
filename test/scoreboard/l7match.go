// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const l7MatchGoal = 2000 // ns, at most

// l7Match looks for rules among 10,000: of 100 hosts with 100 rules each, one after another in an order that no cache likes. There is no control: nothing
// known does only this.
func l7Match(_ context.Context, out io.Writer) (result, error) {
	listener := mesh.Listener{Name: "web", Port: 80, Protocol: mesh.ListenerHTTP}
	var requests []*http.Request
	for host := range 100 {
		name := fmt.Sprintf("app%d", host)
		listener.Routes = append(listener.Routes, l7Route(name, 100))
		for i := range 100 {
			requests = append(requests, &http.Request{
				Method: http.MethodGet, Host: name + ".example.com:80", Header: http.Header{}, URL: &url.URL{Path: fmt.Sprintf("/api/%s/v%d/item/7", name, i)},
			})
		}
	}
	table := gatewayhttp.NewTable([]mesh.Listener{listener})
	for i, r := range requests {
		if t := table.Find(r); t == nil || t.Route.Name+".example.com:80" != r.Host || i%100 > 0 && t.Prefix != fmt.Sprintf("/api/%s/v%d", t.Route.Name, i%100) {
			return result{}, fmt.Errorf("%s%s is taken by %v", r.Host, r.URL.Path, t)
		}
	}
	const looks = 1 << 18
	var times, allocations []float64
	for range 7 {
		at := 0
		look := func() {
			at = (at + 7919) % len(requests)
			if table.Find(requests[at]) == nil {
				panic("what was there is gone")
			}
		}
		took, err := spend(func() error {
			for range looks {
				look()
			}
			return nil
		})
		if err != nil {
			return result{}, err
		}
		times, allocations = append(times, float64(took.processor.Nanoseconds())/looks), append(allocations, testing.AllocsPerRun(1000, look))
	}
	figures := []figure{
		{What: "one match", Unit: "ns", Ours: median(times), Goal: l7MatchGoal},
		{What: "allocations", Ours: median(allocations)},
	}
	for _, f := range figures {
		fmt.Fprintln(out, f)
	}
	return result{Value: median(times), Unit: "ns", Goal: l7MatchGoal, Pass: figures[0].holds() && figures[1].holds(), Figures: figures}, nil
}
