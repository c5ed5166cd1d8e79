// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"strings"
)

// maxLogged bounds what the log repeats of a client's words, in bytes.
const maxLogged = 512

// done counts a request that is over, and writes its line.
func (s *Server) done(t *trip, a *answer, r *http.Request) {
	took := s.o.Now().Sub(t.began)
	route, rule, listener, backend, endpoint := noRoute, "", "", "", ""
	if t.target != nil {
		route, rule, listener = t.target.route, t.target.Rule.Name, t.listener.Name
	}
	s.metrics.done(route, a.status, t.reason, took)
	if t.span == nil && !s.o.Access.Enabled() {
		return
	}
	if t.backend != nil {
		backend = t.backend.Service.String()
	}
	if e := t.endpoint.Load(); e != nil {
		if endpoint = e.Addr.String(); !e.Addr.IsValid() {
			endpoint = e.Workload.UID
		}
	}
	identity, service := "", ""
	if v := t.visit; v != nil {
		identity, service = v.Peer.String(), v.Service.String()
	}
	detail := ""
	if t.err != nil {
		detail = t.err.Error()
	}
	line := []any{
		"method", r.Method[:min(len(r.Method), 32)],
		"host", r.Host[:min(len(r.Host), maxLogged)],
		"path", r.URL.Path[:min(len(r.URL.Path), maxLogged)], // without the query, which may hold secrets
		"protocol", r.Proto,
		"status", a.status,
		"reason", string(t.reason),
		"listener", listener,
		"route", route,
		"rule", rule,
		"backend", backend,
		"endpoint", endpoint,
		"attempts", t.attempts,
		"source", r.RemoteAddr,
		"source_identity", identity,
		"service", service,
		"bytes_sent", a.bytes,
		"duration_ms", took.Milliseconds(),
		"error", detail,
	}
	s.o.Access.Info("request", line...)
	t.endSpan(line, a.status, detail)
}

// headerTrace says of which span a request is a child (W3C Trace Context).
const headerTrace = "Traceparent"

// endSpan ends the request's span with what its line says. It has failed if its client was not answered, or told that it is our side's fault, as
// OpenTelemetry has it for servers of HTTP.
func (t *trip) endSpan(line []any, status int, detail string) {
	problem := ""
	if status == 0 || status >= http.StatusInternalServerError {
		problem = strings.TrimSuffix(string(t.reason)+": "+detail, ": ")
	}
	t.span.End(problem, line...)
}
