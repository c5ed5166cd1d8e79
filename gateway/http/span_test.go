// SPDX-License-Identifier: Apache-2.0

package http

import (
	"encoding/hex"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
	"github.com/isthmus-mesh/isthmus/internal/tracing/tracingtest"
)

// A request's span is a child of the client's, and the backend is told to be a child of it. Who does not trace passes on what the client says.
func TestSpans(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	said := "00-" + trace + "-" + parent + "-01"
	s := newScene(t, Limits{}, listener("web", "", route("r", nil,
		with(rule("found", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }),
		with(rule("gone", prefix("/gone")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("nobody")} }),
	)))
	told := make(chan string, 1)
	s.backend("a", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) { told <- r.Header.Get("Traceparent") })
	client := s.client()
	s.ask(client, http.MethodGet, "http://example.com/", "", "Traceparent", said)
	if got := <-told; got != said {
		t.Errorf("nothing is traced, and the backend is told %q", got)
	}

	var c tracingtest.Collector
	tracer, err := tracing.New(t.Context(), tracing.Options{Endpoint: c.Start(t), Ratio: 1, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	s.server.o.Tracer = tracer
	s.ask(client, http.MethodGet, "http://example.com/", "", "Traceparent", said)
	s.ask(client, http.MethodGet, "http://example.com/gone", "")
	next := <-told
	s.drain()
	tracer.Shutdown()
	spans := map[string]*otlp.Span{}
	for _, span := range c.Spans() {
		spans[tracingtest.Attributes(span)["isthmus.rule"]] = span
	}
	found, gone := spans["found"], spans["gone"]
	if found == nil || gone == nil {
		t.Fatalf("got %v", spans)
	}
	if got := hex.EncodeToString(found.GetTraceId()); got != trace || hex.EncodeToString(found.GetParentSpanId()) != parent {
		t.Errorf("not the client's child: %v", found)
	}
	if want := "00-" + trace + "-" + hex.EncodeToString(found.GetSpanId()) + "-01"; next != want {
		t.Errorf("the backend is told %q, want %q", next, want)
	}
	if found.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR || gone.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("found %v, gone %v", found.GetStatus(), gone.GetStatus())
	}
	if got := tracingtest.Attributes(found); got["isthmus.route"] == "" || got["isthmus.backend"] == "" || found.GetName() != "gateway request" {
		t.Errorf("%s %v", found.GetName(), got)
	}
}
