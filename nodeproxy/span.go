// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import "github.com/isthmus-mesh/isthmus/internal/tracing"

// The names of spans: few, for collectors count by them.
const (
	spanOutbound = "outbound connection"
	spanInbound  = "inbound connection"
)

// endSpan ends a connection's span with what its line of the access log says.
func endSpan(span *tracing.Span, refusal *Refusal, line []any) {
	problem := ""
	if refusal != nil {
		problem = refusal.Error()
	}
	span.End(problem, line...)
}
