// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"log/slog"

	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// The names of spans: few, for collectors count by them.
const (
	spanOutbound = "outbound connection"
	spanInbound  = "inbound connection"
)

// endSpan ends a connection's span with what its line of the access log says.
func endSpan(span *tracing.Span, refusal *Refusal, line []slog.Attr) {
	problem := ""
	if refusal != nil {
		problem = refusal.Error()
	}
	var pairs []any
	if span.Kept() {
		for _, a := range line {
			pairs = append(pairs, a.Key, a.Value.Any())
		}
	}
	span.End(problem, pairs...)
}
