// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Kind is which side of a connection a span is about.
type Kind uint8

const (
	// Client opened it.
	Client Kind = iota
	// Server was asked for it.
	Server
	// Edge was asked for it by somebody who has proved nothing: the trace goes on, but whether it is kept is decided here.
	Edge
)

// Span is one connection, from Start to End.
type Span struct{ span trace.Span }

// Start begins a span. parent is the traceparent that came with the connection; one that cannot be read counts as none, and begins a trace.
func (t *Tracer) Start(kind Kind, name, parent string) *Span {
	if t == nil {
		return nil
	}
	ctx := context.Background()
	if from, ok := parse(parent); ok {
		if kind == Edge {
			from = from.WithTraceFlags(t.flagsOf(from.TraceID()))
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, from)
	}
	as := trace.SpanKindClient
	if kind != Client {
		as = trace.SpanKindServer
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(as))
	if span.SpanContext().IsSampled() {
		t.started.Inc()
	}
	return &Span{span}
}

// flagsOf is what we would have said of a trace that had begun here.
func (t *Tracer) flagsOf(id trace.TraceID) trace.TraceFlags {
	if t.sampler.ShouldSample(sdk.SamplingParameters{ParentContext: context.Background(), TraceID: id}).Decision == sdk.RecordAndSample {
		return trace.FlagsSampled
	}
	return 0
}

// Traceparent is what the next hop is to be told, so that its span has this one for a parent; "" without a span.
func (s *Span) Traceparent() string {
	if s == nil {
		return ""
	}
	c := s.span.SpanContext()
	return fmt.Sprintf("00-%s-%s-%02x", c.TraceID(), c.SpanID(), byte(c.TraceFlags()&trace.FlagsSampled))
}

// Kept says whether what is told at the End goes anywhere.
func (s *Span) Kept() bool { return s != nil && s.span.IsRecording() }

// prefix makes the names in a line of a log ours.
const prefix = "isthmus."

// End ends the span. line is what a log says of the same: pairs of a name and a string, int, int64 or bool, which become attributes isthmus.NAME; empty strings are
// left out. problem is why the connection failed; "" if it did not.
func (s *Span) End(problem string, line ...any) {
	if s == nil {
		return
	}
	if s.Kept() {
		for i := 0; i+1 < len(line); i += 2 {
			name, _ := line[i].(string)
			key := prefix + name
			switch v := line[i+1].(type) {
			case string:
				if v != "" {
					s.span.SetAttributes(attribute.String(key, v))
				}
			case int:
				s.span.SetAttributes(attribute.Int(key, v))
			case int64:
				s.span.SetAttributes(attribute.Int64(key, v))
			case bool:
				s.span.SetAttributes(attribute.Bool(key, v))
			}
		}
		if problem != "" {
			s.span.SetStatus(codes.Error, problem)
		}
	}
	s.span.End(trace.WithTimestamp(time.Now()))
}

// parse reads a traceparent of version 00.
func parse(s string) (trace.SpanContext, bool) {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return trace.SpanContext{}, false
	}
	id, err := trace.TraceIDFromHex(s[3:35])
	span, err2 := trace.SpanIDFromHex(s[36:52])
	flags, err3 := hex.DecodeString(s[53:])
	if err != nil || err2 != nil || err3 != nil {
		return trace.SpanContext{}, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled, Remote: true}), true
}
