// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"encoding/hex"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/isthmus-mesh/isthmus/internal/tracing/tracingtest"
)

func tracer(t *testing.T, o Options) (*Tracer, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	x, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return x, registry
}

func count(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestSpansAreJoined(t *testing.T) {
	var r tracingtest.Collector
	x, registry := tracer(t, Options{Endpoint: r.Start(t), Ratio: 1, Resource: []string{"service.name", "it", "empty", ""}})
	source := x.Start(Client, "out", "")
	destination := x.Start(Server, "in", source.Traceparent())
	destination.End("DENY: no", "identity", "spiffe://t/ns/n/sa/s", "bytes", int64(7), "status", 401, "none", "", "open", true)
	source.End("")
	x.Start(Server, "odd", "00-zz").End("")
	x.Shutdown()

	spans := map[string]*otlp.Span{}
	for _, s := range r.Spans() {
		spans[s.GetName()] = s
	}
	in, out, odd := spans["in"], spans["out"], spans["odd"]
	if in == nil || out == nil || odd == nil {
		t.Fatalf("got %v", spans)
	}
	if hex.EncodeToString(in.GetTraceId()) != hex.EncodeToString(out.GetTraceId()) || hex.EncodeToString(in.GetParentSpanId()) != hex.EncodeToString(out.GetSpanId()) {
		t.Errorf("not joined: %v, %v", out, in)
	}
	if hex.EncodeToString(odd.GetTraceId()) == hex.EncodeToString(out.GetTraceId()) || len(odd.GetParentSpanId()) != 0 {
		t.Errorf("a traceparent that is none has a child: %v", odd)
	}
	if in.GetKind() != otlp.Span_SPAN_KIND_SERVER || out.GetKind() != otlp.Span_SPAN_KIND_CLIENT {
		t.Errorf("kinds %v, %v", in.GetKind(), out.GetKind())
	}
	if s := in.GetStatus(); s.GetCode() != otlp.Status_STATUS_CODE_ERROR || s.GetMessage() != "DENY: no" || out.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("status %v, %v", s, out.GetStatus())
	}
	if got := in.GetAttributes(); len(got) != 4 || got[0].GetKey() != "isthmus.identity" || got[0].GetValue().GetStringValue() != "spiffe://t/ns/n/sa/s" || got[1].GetValue().GetIntValue() != 7 || got[2].GetValue().GetIntValue() != 401 || !got[3].GetValue().GetBoolValue() {
		t.Errorf("attributes %v", got)
	}
	if of := r.Got()[0].GetResource().GetAttributes(); len(of) != 1 || of[0].GetValue().GetStringValue() != "it" {
		t.Errorf("resource %v", of)
	}
	if n := count(t, registry, "isthmus_spans_exported_total"); n != 3 {
		t.Errorf("%v exported", n)
	}
}

// TestSampling: what is not kept here is not kept by those who hear of it, and what others keep is.
func TestSampling(t *testing.T) {
	var r tracingtest.Collector
	x, registry := tracer(t, Options{Endpoint: r.Start(t), Ratio: 0})
	s := x.Start(Client, "dropped", "")
	if parent := s.Traceparent(); s.Kept() || !strings.HasSuffix(parent, "-00") || len(parent) != 55 {
		t.Errorf("kept %v, traceparent %q", s.Kept(), parent)
	}
	s.End("", "a", "b")
	x.Start(Server, "dropped too", s.Traceparent()).End("")
	x.Start(Server, "kept", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").End("")
	x.Start(Edge, "dropped, whatever a stranger says", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").End("")
	x.Shutdown()
	if got := r.Spans(); len(got) != 1 || got[0].GetName() != "kept" {
		t.Errorf("got %v", got)
	}
	if n := count(t, registry, "isthmus_spans_started_total"); n != 1 {
		t.Errorf("%v started", n)
	}
}

// TestNobodyWaits: with a collector that takes nothing, spans end at once, no more than the queue are kept, and the loss is counted and told.
func TestNobodyWaits(t *testing.T) {
	r := tracingtest.Collector{Hold: make(chan struct{}), Refuse: true}
	told := make(chan error, 1000)
	x, registry := tracer(t, Options{Endpoint: r.Start(t), Ratio: 1, Failed: func(err error) { told <- err }})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	const spans = 20 * queued
	for range spans {
		x.Start(Client, "x", "").End("", "k", strings.Repeat("v", 100))
	}
	if took := time.Since(began); took > sending {
		t.Errorf("%d spans took %v: somebody waited", spans, took)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("%d bytes are kept", grown)
	}
	close(r.Hold)
	x.Shutdown()
	if n := count(t, registry, "isthmus_spans_failed_total"); n == 0 || n > queued+2*batch || count(t, registry, "isthmus_spans_exported_total") != 0 {
		t.Errorf("%v failed of %d", n, spans)
	}
	select {
	case err := <-told:
		if !strings.Contains(err.Error(), "not here") {
			t.Error(err)
		}
	default:
		t.Error("nobody was told")
	}
}

func TestNothingTraced(t *testing.T) {
	x, err := New(t.Context(), Options{})
	if err != nil || x != nil {
		t.Fatalf("%v, %v", x, err)
	}
	if n := testing.AllocsPerRun(100, func() {
		s := x.Start(Client, "x", "")
		if s.Kept() || s.Traceparent() != "" {
			t.Error("something is traced")
		}
		s.End("")
	}); n != 0 {
		t.Errorf("%v allocations for nothing", n)
	}
	x.Shutdown()
	for _, o := range []Options{{Endpoint: "collector:4317"}, {Endpoint: "ftp://x"}, {Endpoint: "http://"}, {Endpoint: "http://x", Ratio: 2}} {
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := parse(s); ok && !c.IsValid() {
			t.Errorf("%q is read as %v", s, c)
		}
	})
}
