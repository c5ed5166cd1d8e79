// SPDX-License-Identifier: Apache-2.0

// Package tracingtest is a collector of spans for tests.
package tracingtest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Collector keeps the spans that it is sent. The zero value is ready.
type Collector struct {
	collector.UnimplementedTraceServiceServer
	// Refuse has it take nothing.
	Refuse bool
	// Hold, if not nil, has its answers wait until it is closed.
	Hold chan struct{}

	mu  sync.Mutex
	got []*otlp.ResourceSpans
}

// Export implements the service.
func (c *Collector) Export(ctx context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	if c.Hold != nil {
		select {
		case <-c.Hold:
		case <-ctx.Done():
		}
	}
	if c.Refuse {
		return nil, status.Error(codes.InvalidArgument, "not here")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, in.GetResourceSpans()...)
	return &collector.ExportTraceServiceResponse{}, nil
}

// Got is what it was sent, in order.
func (c *Collector) Got() []*otlp.ResourceSpans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// Spans are those that it was sent, in order.
func (c *Collector) Spans() (out []*otlp.Span) {
	for _, of := range c.Got() {
		for _, scope := range of.GetScopeSpans() {
			out = append(out, scope.GetSpans()...)
		}
	}
	return out
}

// Serve serves on a listener until the test ends.
func (c *Collector) Serve(t testing.TB, l net.Listener) {
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, c)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }() // until it is stopped
	t.Cleanup(func() { s.Stop(); <-served })
}

// Start serves on the loopback until the test ends, and gives the endpoint.
func (c *Collector) Start(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Serve(t, l)
	return "http://" + l.Addr().String()
}

// Attributes are those of a span that are words.
func Attributes(s *otlp.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.GetAttributes() {
		if v := a.GetValue().GetStringValue(); v != "" {
			out[a.GetKey()] = v
		}
	}
	return out
}
