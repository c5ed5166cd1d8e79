// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// found is where a request belongs, as far as that is known.
type found struct {
	target   *Target
	listener *mesh.Listener // that it is for; nil if there is no target
	path     string         // see pathOf
}

// find decides what takes a request: pure, but for the table that it asks.
func find(table *Table, r *http.Request) (found, *Refusal) {
	if r.Method == http.MethodConnect {
		return found{}, &Refusal{http.StatusNotImplemented, ReasonMethod, nil}
	}
	host := hostOf(r.Host)
	if len(host) > maxHost {
		return found{}, &Refusal{http.StatusBadRequest, ReasonBadHost, nil}
	}
	at := table.listener(host)
	if at != nil && visitOf(r.Context()) == nil && (at.listener.Protocol == mesh.ListenerHTTPS || at.listener.Protocol.TLS()) != (r.TLS != nil) {
		// The port's protocol has changed since the connection was made.
		return found{}, &Refusal{http.StatusMisdirectedRequest, ReasonMisdirected, nil}
	}
	if r.TLS != nil && at != nil && (at.listener.Protocol.TLS() || table.listener(serverName(r.TLS.ServerName)) != at) {
		// The client shares a connection that was made for another listener, whose certificate happens to fit (RFC 9110, 15.5.20).
		return found{}, &Refusal{http.StatusMisdirectedRequest, ReasonMisdirected, nil}
	}
	if at == nil {
		return found{}, &Refusal{http.StatusNotFound, ReasonNoListener, nil}
	}
	path, ok := pathOf(r.URL)
	if !ok {
		return found{}, &Refusal{http.StatusBadRequest, ReasonBadPath, nil}
	}
	target := at.Match(r, host, path)
	if target == nil {
		return found{path: path}, &Refusal{http.StatusNotFound, ReasonNoRoute, nil}
	}
	out := found{target, at.listener, path}
	if target.Rule.Problem != "" {
		return out, &Refusal{http.StatusInternalServerError, ReasonInvalidRule, fmt.Errorf("%s", target.Rule.Problem)}
	}
	return out, nil
}

// choose draws one of a rule's backends by weight.
func choose(rule *mesh.HTTPRule) (*mesh.HTTPBackend, *Refusal) {
	var total uint64
	for i := range rule.Backends {
		total += uint64(rule.Backends[i].Weight)
	}
	if total == 0 {
		return nil, &Refusal{http.StatusInternalServerError, ReasonInvalidBackend, fmt.Errorf("the rule has no backend with a weight")}
	}
	at := rand.Uint64N(total)
	for i := range rule.Backends {
		b := &rule.Backends[i]
		if at >= uint64(b.Weight) {
			at -= uint64(b.Weight)
			continue
		}
		if b.Problem != "" {
			return b, &Refusal{http.StatusInternalServerError, ReasonInvalidBackend, fmt.Errorf("%s", b.Problem)}
		}
		return b, nil
	}
	return nil, nil // not reached: at is below the sum of the weights
}

// serve answers one request that a table has a target for.
func (s *Server) serve(t *trip, w *answer, r *http.Request) {
	rule := t.target.Rule
	t.origin = r.Header.Get("Origin")
	if t.visit == nil { // of a visit that was asked before its routes
		if err := s.admit(t); err != nil {
			s.refuse(t, w, &Refusal{http.StatusForbidden, ReasonDenied, err})
			return
		}
	}
	if c := rule.Filters.CORS; c != nil && isPreflight(r) {
		s.preflight(t, w, r, c)
		return
	}
	if d := rule.Filters.Redirect; d != nil {
		s.redirect(t, w, r, d)
		return
	}
	var refusal *Refusal
	if t.backend, refusal = choose(rule); refusal != nil {
		s.refuse(t, w, refusal)
		return
	}
	if c := t.backend.Filters.CORS; c != nil && isPreflight(r) {
		s.preflight(t, w, r, c)
		return
	}
	if d := t.backend.Filters.Redirect; d != nil {
		s.redirect(t, w, r, d)
		return
	}
	if err := s.admitTo(t, t.backend, &t.sent); err != nil {
		s.refuse(t, w, &Refusal{http.StatusForbidden, ReasonDenied, err})
		return
	}
	t.within = tripContext{r.Context(), t}
	ctx, end := context.WithCancelCause(&t.within)
	defer end(nil)
	s.standing.add(t, end)
	defer s.standing.remove(t)
	if s.standing.generation.Load() != t.generation { // whoever judged the others anew did not see this one
		if err := s.judge(t); err != nil {
			s.refuse(t, w, &Refusal{http.StatusForbidden, ReasonDenied, err})
			return
		}
	}
	switch {
	case rule.RequestTimeout > 0 && r.Header["Upgrade"] != nil: // if it is answered by another protocol, it is answered
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		t.upgraded = time.AfterFunc(rule.RequestTimeout, func() { cancel(errTimeUp) }).Stop
		defer t.upgraded()
	case rule.RequestTimeout > 0:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, rule.RequestTimeout, errTimeUp)
		defer cancel()
	}
	if t.grpc {
		if limit, ok := grpcTimeout(r.Header.Get("Grpc-Timeout")); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, limit, errTimeUp)
			defer cancel()
		}
	}
	t.ctx = ctx
	r = r.WithContext(ctx)
	if r.ContentLength != 0 {
		// Who waits for the next piece of the body does not see that the time is over.
		if body := r.Body; r.ProtoMajor == 2 {
			t.cut = func() { body.Close() }
			defer context.AfterFunc(ctx, t.cut)()
		}
		if body := w.upload; body != nil {
			r.Body, t.cut, t.late = body, body.cut, body.late
			defer context.AfterFunc(ctx, t.cut)()
		} else if !s.converses(t) {
			body := s.uploadOf(t, r)
			body.close = r.Body.Close
			r.Body = body
		}
		if most := s.o.Limits.BodyBytes; most > 0 {
			r.Body = http.MaxBytesReader(w.ResponseWriter, r.Body, most)
		}
	}
	defer s.release(t)
	if err := s.chooseMirrors(t, r); err != nil {
		s.failed(w, r, err)
		return
	}
	if r.Header["Upgrade"] == nil || !r.ProtoAtLeast(1, 1) { // in HTTP/1.0 nobody can ask for one: RFC 9110, 7.8
		s.forward(t, w, r)
	} else {
		s.proxy.ServeHTTP(w, r)
	}
	if t.reason == ReasonNone && t.revoked() { // an upgraded one, which just ends
		t.reason, t.err = ReasonRevoked, errRevoked
	}
}

// admit says why a client may not ask anything of the listener that it came by, or of what it visits; nil: it may.
func (s *Server) admit(t *trip) error {
	switch {
	case t.visit != nil:
		return t.visit.Admit(&t.asked)
	case s.o.Admit != nil:
		return s.o.Admit(t.from, t.listener.Port, &t.asked)
	}
	return nil
}

// admitTo says why a client may not send a backend what its rule makes of the request, or nil. Otherwise a rule that somebody else wrote, who may be the client, could make of a request that
// policies let in one that they do not.
func (s *Server) admitTo(t *trip, b *mesh.HTTPBackend, sent *Asked) error {
	if v := t.visit; v != nil {
		strange := t.target.Route.Namespace != b.Service.Namespace
		if b.Service == v.Service && b.Port == v.Port && !strange {
			return nil // that is what the visit is for
		}
		return v.AdmitTo(b.Service, b.Port, sent, strange)
	}
	if s.o.AdmitTo == nil {
		return nil
	}
	return s.o.AdmitTo(t.from, b.Service, b.Port, sent)
}

// clientOf is the address of a request's client; zero, which no policy names, if it has none.
func clientOf(r *http.Request) netip.Addr {
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	return from.Addr().Unmap()
}

func (s *Server) redirect(t *trip, w *answer, r *http.Request, d *mesh.HTTPRedirect) {
	t.reason = ReasonRedirect
	w.Header().Set("Location", location(r, t.found, d))
	change(w.Header(), &t.target.Rule.Filters.Response)
	share(w.Header(), t)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(int(d.Status))
}

// refuse answers a request instead of a backend.
func (s *Server) refuse(t *trip, w http.ResponseWriter, refusal *Refusal) {
	t.reason, t.err = refusal.Reason, refusal.Err
	h := w.Header()
	h.Set(headerReason, string(refusal.Reason))
	if v := t.visit; v != nil && v.LocalOnly && refusal.Reason == ReasonNoEndpoint {
		farewell(h) // another cluster may have some, and only a new connection gets there
	}
	share(h, t)
	if t.grpc && refusal.Status != http.StatusMisdirectedRequest {
		refuseRPC(w, refusal)
		return
	}
	if refusal.Status == statusClientGone {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	text := fmt.Sprintf("%d %s\n", refusal.Status, refusal.Reason)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(refusal.Status)
	_, _ = io.WriteString(w, text) // who left is not told
}

// rewrite makes of a request what the backend is sent.
func (s *Server) rewrite(p *httputil.ProxyRequest) {
	t, out := tripOf(p.In.Context()), p.Out
	withoutH2C(out.Header)
	out.URL.RawQuery = p.In.URL.RawQuery // as it was matched, also what cannot be parsed
	if t.visit != nil {
		keepForwarded(out.Header, p.In.Header)
	} else {
		p.SetXForwarded()
		withoutUnproved(out.Header)
	}
	s.filterRequest(t, out)
	s.sign(out, p.In)
}

// filterRequest does to what a backend is sent what the rule's filters say.
func (s *Server) filterRequest(t *trip, out *http.Request) {
	setPath(out.URL, t.path)
	if parent := t.span.Traceparent(); parent != "" {
		out.Header.Set(headerTrace, parent)
	}
	for _, f := range [...]*mesh.HTTPFilters{&t.target.Rule.Filters, &t.backend.Filters} {
		changeRequest(out, &f.Request)
		if f.Rewrite != nil {
			rewrite(out, f.Rewrite, t.path, t.target.Prefix)
		}
	}
}

// answered changes a backend's answer on its way to the client.
func (s *Server) answered(response *http.Response) error {
	t := tripOf(response.Request.Context())
	if response.StatusCode == http.StatusSwitchingProtocols && t.upgraded != nil {
		t.upgraded()
	}
	s.changeAnswer(t, response.Header)
	return nil
}

// changeAnswer does to an answer's headers what the rule's filters say.
func (s *Server) changeAnswer(t *trip, h http.Header) {
	share(h, t)
	change(h, &t.backend.Filters.Response)
	change(h, &t.target.Rule.Filters.Response)
}

// failed answers a request that no backend did.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	t := tripOf(r.Context())
	refusal := refusalOf(r.Context(), err)
	if u := t.answer.upload; u != nil {
		if refusal.Reason == ReasonClientGone && u.wasWoken() {
			refusal = &Refusal{http.StatusBadGateway, ReasonUpstream, errEndpointLeft}
		}
		if u.invited { // or the library would wait for who reads it before it answers
			u.wake()
		}
	}
	// The library ends the request of a client that is late before whoever reads the body hears of it.
	if refusal.Reason == ReasonClientGone && t.late != nil && t.late() {
		t.stalled.Store(true)
	}
	if t.stalled.Load() {
		refusal = &Refusal{http.StatusRequestTimeout, ReasonStalled, err}
	} else if t.garbled.Load() && refusal.Reason == ReasonUpstream {
		refusal = &Refusal{http.StatusBadRequest, ReasonBadBody, err}
	}
	s.refuse(t, w, refusal)
}

// roundTripper is the proxy's way to backends.
type roundTripper struct{ s *Server }

// RoundTrip implements http.RoundTripper.
func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	t := tripOf(r.Context())
	if len(t.mirrors) > 0 {
		rt.s.mirror(t, r)
	}
	if t.target.Rule.Retry == nil {
		only := &tries{left: maxAttempts - 1}
		only.last.Store(true)
		return rt.attempt(r, t, only)
	}
	return rt.persist(r, t)
}
