// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"encoding/hex"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/isthmus-mesh/isthmus/internal/tracing"
	"github.com/isthmus-mesh/isthmus/internal/tracing/tracingtest"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// traced is what proxies of the stage trace with, and tracedAt where its gateway sends spans; zero: they do not. Stages are played one after the other.
var (
	traced   *tracing.Tracer
	tracedAt string
)

// find waits for a span with these attributes.
func find(t *testing.T, c *tracingtest.Collector, name string, want map[string]string) *otlp.Span {
	t.Helper()
	var found *otlp.Span
	wait(t, name+" with attributes", func() bool {
	next:
		for _, s := range c.Spans() {
			got := tracingtest.Attributes(s)
			for k, v := range want {
				if got[k] != v {
					continue next
				}
			}
			if s.GetName() == name {
				found = s
			}
		}
		return found != nil
	})
	return found
}

// TestSpans follows one connection through both proxies of both clusters, and one that is refused.
func TestSpans(t *testing.T) {
	var c tracingtest.Collector
	var err error
	traced, err = tracing.New(t.Context(), tracing.Options{Endpoint: c.Start(t), Ratio: 1, Registerer: prometheus.NewRegistry()})
	must(t, err)
	t.Cleanup(func() { traced.Shutdown(); traced, tracedAt = nil, "" })
	tracedAt = "http://203.0.113.1:4317" // the gateway has a network of its own, and a leg on the WAN
	w := newWorld(t)
	must(t, redirect.Inside(w.wan.file, func() error {
		l, err := net.Listen("tcp", "203.0.113.1:4317")
		if err == nil {
			c.Serve(t, l)
		}
		return err
	}))

	for _, tc := range []struct{ to, tunnel, cluster, service string }{
		{"240.240.0.5:80", "double-hbone", "west", "remote.demo.svc.cluster.local:80"}, {"10.96.0.10:80", "hbone", "east", "local.demo.svc.cluster.local:80"},
	} {
		_, err := w.client.call(tc.to, "hello")
		must(t, err)
		common := map[string]string{
			"isthmus.tunnel": tc.tunnel, "isthmus.source_identity": "spiffe://cluster.local/ns/demo/sa/client", "isthmus.destination_identity": "spiffe://cluster.local/ns/demo/sa/server",
			"isthmus.source_cluster": "east", "isthmus.destination_cluster": tc.cluster, "isthmus.reason": "-",
		}
		in := find(t, &c, "inbound connection", common)
		common["isthmus.service"] = tc.service
		out := find(t, &c, "outbound connection", common)
		if hex.EncodeToString(in.GetTraceId()) != hex.EncodeToString(out.GetTraceId()) || hex.EncodeToString(in.GetParentSpanId()) != hex.EncodeToString(out.GetSpanId()) {
			t.Errorf("%s: the two ends are not joined", tc.to)
		}
		for _, s := range []*otlp.Span{in, out} {
			for _, a := range s.GetAttributes() {
				if a.GetKey() == "isthmus.bytes_received" && a.GetValue().GetIntValue() != 5 {
					t.Errorf("%s: %d bytes", s.GetName(), a.GetValue().GetIntValue())
				}
			}
		}
	}
	if _, err := w.client.call("10.96.0.10:81", "hello"); err == nil {
		t.Fatal("no such port, and an answer")
	}
	if s := find(t, &c, "outbound connection", map[string]string{"isthmus.reason": "NO_SUCH_PORT"}); s.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("status %v", s.GetStatus())
	}
	out := find(t, &c, "outbound connection", map[string]string{"isthmus.tunnel": "double-hbone", "isthmus.reason": "-"})
	must(t, w.east.agent.Del(t.Context(), "client-uid")) // a tunnel that is kept for further connections ends with its pod, and the gateway's stream with it
	between := find(t, &c, "gateway stream", map[string]string{
		"isthmus.peer": "spiffe://cluster.local/ns/demo/sa/client", "isthmus.service": "remote.demo.svc.cluster.local:80", "isthmus.source_cluster": "east", "isthmus.reason": "-",
	})
	if hex.EncodeToString(between.GetParentSpanId()) != hex.EncodeToString(out.GetSpanId()) {
		t.Error("the gateway's span is not a child of the caller's")
	}
}
