// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import "github.com/isthmus-mesh/isthmus/internal/tracing"

// The names of spans: few, for collectors count by them.
const (
	spanOutbound = "outbound connection"
	spanInbound  = "inbound connection"
)

// endSpan ends a connection's span with what its line of the access log says, under names of ours.
func endSpan(span *tracing.Span, refusal *Refusal, line []any) {
	if !span.Kept() {
		span.End("")
		return
	}
	fields := make([]any, len(line))
	for i := 0; i+1 < len(line); i += 2 {
		name, _ := line[i].(string)
		fields[i], fields[i+1] = "isthmus."+name, line[i+1]
	}
	problem := ""
	if refusal != nil {
		problem = refusal.Error()
	}
	span.End(problem, fields...)
}
