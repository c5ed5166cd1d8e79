// SPDX-License-Identifier: Apache-2.0

// Package tracing makes an OpenTelemetry span of each connection and sends it to a collector, by OTLP over gRPC. Spans of one connection in several proxies are
// joined by the traceparent that their tunnels carry (W3C Trace Context).
//
// A nil Tracer makes nil Spans, and both may be used: whoever has nothing to trace pays a comparison. No method waits for anything: spans wait for the collector in
// a queue of bounded length, and those that do not fit, or that the collector does not take in time, are lost and counted. The package knows no mesh.
package tracing
