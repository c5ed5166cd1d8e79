// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// queued is how many ended spans may wait to be sent. Each takes about 2 KiB, so 4 MiB if a collector is away.
	queued = 2048
	// batch is how many go in one message, and interval how long the first of them waits at most.
	batch    = 512
	interval = 2 * time.Second
	// sending bounds one message, with its retries.
	sending = 10 * time.Second
	// farewell is how long a process that ends waits for what is queued.
	farewell = 3 * time.Second
)

// Options say where spans go and of what process they are.
type Options struct {
	// Endpoint is the collector's, "http://host:4317" or "https://host:4317" (verified by the system's roots). Empty: nothing is traced.
	Endpoint string
	// Ratio is how many of the traces that begin here are kept, 0 to 1. A trace that began elsewhere is kept if its traceparent says so.
	Ratio float64
	// Resource describes the process: attributes in pairs of key and value; empty values are left out.
	Resource []string
	// Registerer takes the counters.
	Registerer prometheus.Registerer
	// Failed is told why spans were lost. It must not block.
	Failed func(error)
}

// Tracer makes spans. Shut it down.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	sampler  sdk.Sampler // of traces that begin here
	started  prometheus.Counter
}

// New gives nil if there is no endpoint. It does not wait for the collector.
func New(ctx context.Context, o Options) (*Tracer, error) {
	if o.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracer traces nothing
	}
	at, err := url.Parse(o.Endpoint)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return nil, fmt.Errorf("endpoint %q of traces is not http://host:port or https://host:port", o.Endpoint)
	}
	if o.Ratio < 0 || o.Ratio > 1 {
		return nil, fmt.Errorf("ratio %v of traces is not between 0 and 1", o.Ratio)
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(o.Endpoint), otlptracegrpc.WithTimeout(sending),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 4 * time.Second, MaxElapsedTime: sending}))
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", o.Endpoint, err)
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		o.Registerer.MustRegister(c)
		return c
	}
	counted := &counted{
		SpanExporter: exporter, failed: o.Failed,
		exported: counter("isthmus_spans_exported_total", "Spans that a collector took."),
		lost:     counter("isthmus_spans_failed_total", "Spans that were sent and that no collector took in time."),
	}
	var attributes []attribute.KeyValue
	for i := 0; i+1 < len(o.Resource); i += 2 {
		if o.Resource[i+1] != "" {
			attributes = append(attributes, attribute.String(o.Resource[i], o.Resource[i+1]))
		}
	}
	sampler := sdk.TraceIDRatioBased(o.Ratio)
	provider := sdk.NewTracerProvider(
		sdk.WithResource(resource.NewSchemaless(attributes...)),
		sdk.WithSampler(sdk.ParentBased(sampler)),
		sdk.WithBatcher(counted, sdk.WithMaxQueueSize(queued), sdk.WithMaxExportBatchSize(batch), sdk.WithBatchTimeout(interval), sdk.WithExportTimeout(sending)),
	)
	return &Tracer{
		provider: provider, sampler: sampler, tracer: provider.Tracer("github.com/isthmus-mesh/isthmus"),
		started: counter("isthmus_spans_started_total", "Spans that were begun to be sent when they end. Those neither exported nor failed nor running found the queue full."),
	}, nil
}

// Shutdown sends what is queued, for a few seconds at most. Spans that end later are lost.
func (t *Tracer) Shutdown() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what was lost is counted
}

// counted counts what becomes of spans.
type counted struct {
	sdk.SpanExporter
	exported, lost prometheus.Counter
	failed         func(error)
}

// ExportSpans sends a batch. Its failures end here, where they are counted, and not in a handler of the whole process.
func (c *counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		c.exported.Add(float64(len(spans)))
		return nil
	}
	c.lost.Add(float64(len(spans)))
	if c.failed != nil && !errors.Is(err, context.Canceled) {
		c.failed(fmt.Errorf("%d spans were lost: %w", len(spans), err))
	}
	return nil
}
