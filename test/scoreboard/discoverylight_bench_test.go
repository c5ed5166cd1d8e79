// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// BenchmarkProxies tells 100 proxies of one change, with the product's client and with light streams. What counts is the processor time of both sides for one proxy: the server's
// part is the same.
func BenchmarkProxies(b *testing.B) {
	const clients = 100
	for name, start := range map[string]func(*testing.B, context.Context, *watched, func(mesh.Delta) error){
		"client": func(_ *testing.B, ctx context.Context, w *watched, apply func(mesh.Delta) error) {
			c := xds.NewClient(xds.ClientOptions{
				Log: logr.Discard(), Target: w.address, ServerName: subscribersName, RootCAs: w.signer.Roots().Clone,
				Token: func() (string, error) { return "good", nil }, Types: []xds.Type{xds.Addresses(), xds.Policies()}, Apply: apply,
			})
			w.running.Go(func() { _ = c.Run(ctx) }) // ends with its context
		},
		"light": func(b *testing.B, ctx context.Context, w *watched, apply func(mesh.Delta) error) {
			proxy, s := lightWatcher(b, w, apply)
			context.AfterFunc(ctx, s.close)
			w.running.Go(func() { _ = proxy.follow(s) }) // ends with its stream
		},
	} {
		b.Run(name, func(b *testing.B) {
			w, err := newWatched(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer w.stop()
			defer cancel()
			for range clients {
				start(b, ctx, w, func(mesh.Delta) error { w.applied <- moment{}; return nil })
			}
			all := func() {
				for range clients {
					<-w.applied
				}
			}
			all()
			before := processorTime()
			for i := 0; b.Loop(); i++ {
				w.server.Update(watchedChange(uint32(2 + i)))
				all()
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(clients*b.N), "cpu-µs/proxy")
		})
	}
}
