// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/tracing"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// traced is what proxies of the stage trace with, and tracedAt where its gateway sends spans; zero: they do not. Stages are played one after the other.
var (
	traced   *tracing.Tracer
	tracedAt string
)

// collected is a collector of spans.
type collected struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*otlp.Span
}

func (c *collected) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range in.GetResourceSpans() {
		for _, scope := range of.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// find waits for a span with these attributes.
func (c *collected) find(t *testing.T, name string, want map[string]string) *otlp.Span {
	t.Helper()
	var found *otlp.Span
	wait(t, name+" with attributes", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
	next:
		for _, s := range c.spans {
			got := attributesOf(s)
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

func attributesOf(s *otlp.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.GetAttributes() {
		if v := a.GetValue(); v.GetStringValue() != "" {
			out[a.GetKey()] = v.GetStringValue()
		}
	}
	return out
}

// TestSpans follows one connection through both proxies of both clusters, and one that is refused.
func TestSpans(t *testing.T) {
	c := &collected{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	traced, err = tracing.New(t.Context(), tracing.Options{Endpoint: "http://" + l.Addr().String(), Ratio: 1, Registerer: prometheus.NewRegistry()})
	must(t, err)
	t.Cleanup(func() { traced.Shutdown(); traced, tracedAt = nil, "" })
	tracedAt = "http://203.0.113.1:4317" // the gateway has a network of its own, and a leg on the WAN
	w := newWorld(t)
	must(t, redirect.Inside(w.wan.file, func() error {
		l, err := net.Listen("tcp", "203.0.113.1:4317")
		if err == nil {
			go server.Serve(l)
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
		in := c.find(t, "inbound connection", common)
		common["isthmus.service"] = tc.service
		out := c.find(t, "outbound connection", common)
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
	if s := c.find(t, "outbound connection", map[string]string{"isthmus.reason": "NO_SUCH_PORT"}); s.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("status %v", s.GetStatus())
	}
	out := c.find(t, "outbound connection", map[string]string{"isthmus.tunnel": "double-hbone", "isthmus.reason": "-"})
	must(t, w.east.agent.Del(t.Context(), "client-uid")) // a tunnel that is kept for further connections ends with its pod, and the gateway's stream with it
	between := c.find(t, "gateway stream", map[string]string{
		"isthmus.peer": "spiffe://cluster.local/ns/demo/sa/client", "isthmus.service": "remote.demo.svc.cluster.local:80", "isthmus.source_cluster": "east", "isthmus.reason": "-",
	})
	if hex.EncodeToString(between.GetParentSpanId()) != hex.EncodeToString(out.GetSpanId()) {
		t.Error("the gateway's span is not a child of the caller's")
	}
}
