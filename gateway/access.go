// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// record is one stream in the making: what the access log will say of it when it ends, and what the counters count.
// It belongs to the stream's goroutine; its stats are read by others.
type record struct {
	s           *Server
	began       time.Time
	peer        mesh.Identity
	outer       string // address of the outer connection's peer: the same for streams that share one
	tunnel      string // "hbone", "tcp", "udp", "tls" for TLS that is passed on, or "tls-ended" for TLS that ends here
	service     string // as the client named it
	workload    string
	destination string
	endpoint    string // address of the pod
	// sourceCluster is where the peer says that it is; destinationCluster is the pod's, as discovery says.
	sourceCluster, destinationCluster string
	span                              *tracing.Span
	stats                             relay.Stats
}

func (s *Server) begin(peer mesh.Identity, outer net.Addr, authority string, h hbone.Header) *record {
	return &record{
		s: s, began: s.o.Now(), peer: peer, outer: outer.String(), tunnel: "hbone", service: authority, sourceCluster: claimedCluster(h.Get(headerBaggage)),
		span: s.o.Tracer.Start(tracing.Server, "gateway stream", h.Get(headerTrace)),
	}
}

// The headers of an outer CONNECT that telemetry reads.
const (
	headerBaggage = "baggage"
	headerTrace   = "traceparent"
	// longestBaggage and longestCluster bound what is read, in bytes.
	longestBaggage, longestCluster = 4096, 253
)

// claimedCluster is the cluster that a peer says it is in (W3C Baggage, as ztunnel writes it); "" if it says none that can be read.
func claimedCluster(baggage string) string {
	if len(baggage) > longestBaggage {
		return ""
	}
	for member := range strings.SplitSeq(baggage, ",") {
		member, _, _ = strings.Cut(member, ";")
		if key, value, _ := strings.Cut(member, "="); strings.TrimSpace(key) == "k8s.cluster.name" {
			name, err := url.PathUnescape(strings.TrimSpace(value))
			if err != nil || len(name) > longestCluster || !utf8.ValidString(name) {
				return ""
			}
			return name
		}
	}
	return ""
}

// dialled is called when an endpoint accepted.
func (r *record) dialled(d dialled) {
	r.workload = d.candidate.name
	r.destination = d.candidate.dial.String()
	r.endpoint = d.candidate.dial.Addr().String()
	if w := r.s.live.Load().Workload(d.candidate.uid); w != nil {
		r.destinationCluster = w.Cluster
	}
}

// refused is called at most once, instead of opened.
func (r *record) refused(refusal *Refusal, answering error) {
	r.s.metrics.refused.WithLabelValues(string(refusal.Reason)).Inc()
	err := refusal.Err
	if answering != nil {
		err = answering
	}
	r.write(refusal.Status, refusal.Reason, err)
}

// opened is called when the client was answered 200. A tunnel that its source keeps for many connections is one stream, which may last for hours: it is told when it begins, too.
func (r *record) opened() {
	r.s.metrics.open(&r.stats)
	if !r.peer.IsZero() {
		r.s.o.Access.Info("stream opened",
			"direction", "gateway", "tunnel", r.tunnel, "peer", r.peer.String(), "service", r.service, "workload", r.workload,
			"source", r.outer, "destination", r.destination, "outer", r.outer, "status", 200)
	}
}

// closed is called once after opened. timeUp says that the time for draining was over by then.
func (r *record) closed(err error, timeUp bool) {
	reason := Reason("-")
	_, untrusted := errors.AsType[*mtls.VerifyError](err)
	revoked, isRevoked := errors.AsType[*Refusal](err)
	switch {
	case untrusted: // the Source ended the connection
		reason = ReasonUntrusted
	case isRevoked:
		reason, err = revoked.Reason, revoked.Err
	case err != nil && timeUp:
		reason = ReasonDrained
	case err != nil:
		reason = ReasonAborted
	}
	r.s.metrics.close(&r.stats, reason)
	r.write(200, reason, err)
}

// write writes the line. Nothing in it comes from inside the tunnel.
func (r *record) write(status int, reason Reason, err error) {
	detail, peer := "", ""
	if !r.peer.IsZero() {
		peer = r.peer.String()
	}
	if err != nil {
		detail = err.Error()
	}
	line := []any{
		"direction", "gateway",
		"tunnel", r.tunnel,
		"peer", peer,
		"service", r.service,
		"workload", r.workload,
		"source", r.outer,
		"destination", r.destination,
		"network", "",
		"source_cluster", r.sourceCluster,
		"source_identity", peer,
		"destination_cluster", r.destinationCluster,
		"outer", r.outer,
		"endpoint", r.endpoint,
		"bytes_sent", r.stats.Received.Load(), // to the source, as Istio counts
		"bytes_received", r.stats.Sent.Load(), // from the source
		"duration_ms", r.s.o.Now().Sub(r.began).Milliseconds(),
		"status", status,
		"reason", string(reason),
		"error", detail,
	}
	r.s.o.Access.Info("connection", line...)
	r.end(line, reason, detail)
}

// end ends the stream's span with what the line says.
func (r *record) end(line []any, reason Reason, detail string) {
	problem := ""
	if reason != "-" {
		problem = strings.TrimSuffix(string(reason)+": "+detail, ": ")
	}
	r.span.End(problem, line...)
}
