// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// record is one stream in the making: what the access log will say of it when it ends, and what the counters count.
// It belongs to the stream's goroutine; its stats are read by others.
type record struct {
	s           *Server
	began       time.Time
	peer        mesh.Identity
	outer       string // address of the outer connection's peer: the same for streams that share one
	tunnel      string // "hbone", or "tls" for one that is passed through
	service     string // as the client named it
	workload    string
	destination string
	endpoint    string // address of the pod
	stats       relay.Stats
}

func (s *Server) begin(peer mesh.Identity, outer net.Addr, authority string) *record {
	return &record{s: s, began: s.o.Now(), peer: peer, outer: outer.String(), tunnel: "hbone", service: authority}
}

// dialled is called when an endpoint accepted.
func (r *record) dialled(d dialled) {
	r.workload = d.candidate.name
	r.destination = d.candidate.dial.String()
	r.endpoint = d.candidate.dial.Addr().String()
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

// opened is called when the client was answered 200.
func (r *record) opened() { r.s.metrics.open(&r.stats) }

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
	r.s.o.Access.Info("connection",
		"direction", "gateway",
		"tunnel", r.tunnel,
		"peer", peer,
		"service", r.service,
		"workload", r.workload,
		"source", r.outer,
		"destination", r.destination,
		"network", "",
		"outer", r.outer,
		"endpoint", r.endpoint,
		"bytes_sent", r.stats.Received.Load(), // to the source, as Istio counts
		"bytes_received", r.stats.Sent.Load(), // from the source
		"duration_ms", r.s.o.Now().Sub(r.began).Milliseconds(),
		"status", status,
		"reason", string(reason),
		"error", detail,
	)
}
