// SPDX-License-Identifier: Apache-2.0

package mesh

import "fmt"

// Fault says what of the route no gateway takes; empty: it may be told.
func (r *HTTPRoute) Fault() string {
	var f faults
	f.must("namespace", r.Namespace, MaxName)
	f.must("name", r.Name, MaxName)
	f.texts("hostnames", r.Hostnames, MaxName)
	for i := range r.Rules {
		if fault := r.Rules[i].Fault(); fault != "" {
			f.add("rule %d: %s", i, fault)
		}
	}
	return f.first
}

// Fault says what of the rule no gateway takes; empty: it may be told.
func (r *HTTPRule) Fault() string {
	var f faults
	f.text("name", r.Name, MaxName)
	f.text("problem", r.Problem, MaxValue)
	if len(r.Matches) == 0 {
		f.add("it is without a match")
	}
	for i := range r.Matches {
		if fault := r.Matches[i].Fault(); fault != "" {
			f.add("match %d: %s", i, fault)
		}
	}
	f.filters("filters", &r.Filters)
	for i := range r.Backends {
		f.backend(fmt.Sprintf("backend %d", i), &r.Backends[i])
	}
	if r.RequestTimeout < 0 || r.BackendTimeout < 0 {
		f.add("a timeout is negative")
	}
	if retry := r.Retry; retry != nil {
		f.retry(retry)
	}
	return f.first
}

// Fault says what of the match no gateway takes; empty: it may be told.
func (m *HTTPMatch) Fault() string {
	var f faults
	if m.Path == "" || m.Path[0] != '/' {
		f.add("path %.64q does not begin with a slash", m.Path)
	}
	f.text("path", m.Path, MaxValue)
	f.text("method", m.Method, MaxName)
	f.text("rpc", m.RPC, MaxValue)
	f.pairs("headers", m.Headers)
	f.pairs("query parameters", m.Query)
	return f.first
}

// maxRetryCodes is how many statuses from 400 to 599 there are.
const maxRetryCodes = 200

func (f *faults) retry(r *HTTPRetry) {
	if r.Backoff < 0 {
		f.add("retry backoff is negative")
	}
	if n := len(r.Codes); n > maxRetryCodes {
		f.add("retry has %d codes, at most %d are taken", n, maxRetryCodes)
	}
	for _, c := range r.Codes {
		if c < 400 || c > 599 {
			f.add("retry has the code %d", c)
		}
	}
}

func (f *faults) pairs(field string, in []NameValue) {
	if len(in) > MaxMembers {
		f.add("%s has %d entries, at most %d are taken", field, len(in), MaxMembers)
		return
	}
	for i := range in {
		f.must(field, in[i].Name, MaxValue)
		f.text(field, in[i].Value, MaxValue)
	}
}

func (f *faults) filters(at string, in *HTTPFilters) {
	for _, h := range []struct {
		field string
		*HeaderChange
	}{{at + ": request headers", &in.Request}, {at + ": response headers", &in.Response}} {
		f.pairs(h.field+" to set", h.Set)
		f.pairs(h.field+" to add", h.Add)
		f.texts(h.field+" to remove", h.Remove, MaxValue)
	}
	if r := in.Redirect; r != nil {
		f.text(at+": redirect scheme", r.Scheme, MaxName)
		f.text(at+": redirect hostname", r.Hostname, MaxName)
		f.text(at+": redirect path", r.Path.Value, MaxValue)
		if r.Status < 300 || r.Status > 399 {
			f.add("%s: redirect has the status %d", at, r.Status)
		}
	}
	if r := in.Rewrite; r != nil {
		f.text(at+": rewrite hostname", r.Hostname, MaxName)
		f.text(at+": rewrite path", r.Path.Value, MaxValue)
	}
	if c := in.CORS; c != nil {
		f.texts(at+": CORS origins", c.Origins, MaxName)
		f.texts(at+": CORS methods", c.Methods, MaxName)
		f.texts(at+": CORS headers", c.Headers, MaxValue)
		f.texts(at+": CORS headers to expose", c.Expose, MaxValue)
	}
	for i := range in.Mirrors {
		m := &in.Mirrors[i]
		if m.Denominator == 0 {
			f.add("%s: mirror has no denominator", at)
		}
		f.backend(at+": mirror", &m.Backend)
	}
}

func (f *faults) backend(at string, b *HTTPBackend) {
	f.text(at+": problem", b.Problem, MaxValue)
	if b.Problem == "" || b.Service != (ServiceKey{}) {
		f.must(at+": service namespace", b.Service.Namespace, MaxName)
		f.must(at+": service hostname", b.Service.Hostname, MaxName)
	}
	if b.Problem == "" && b.Port == 0 {
		f.add("%s: port is 0, which is no port", at)
	}
	f.filters(at, &b.Filters)
}
