// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Headers of the CORS protocol (fetch.spec.whatwg.org, 3.3).
const (
	headerAllowOrigin      = "Access-Control-Allow-Origin"
	headerAllowCredentials = "Access-Control-Allow-Credentials"
	headerAllowMethods     = "Access-Control-Allow-Methods"
	headerAllowHeaders     = "Access-Control-Allow-Headers"
	headerExposeHeaders    = "Access-Control-Expose-Headers"
	headerMaxAge           = "Access-Control-Max-Age"
	headerRequestMethod    = "Access-Control-Request-Method"
	headerRequestHeaders   = "Access-Control-Request-Headers"
)

// isPreflight says whether a browser asks what a script may do, before the script's request.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header[headerRequestMethod] != nil && r.Header["Origin"] != nil
}

// asks says whether a request asks on behalf of one that a match is for: it comes with another method, and is answered by the rule's filter.
func (c *candidate) asks(r *http.Request) bool {
	return c.target.Rule.Filters.CORS != nil && isPreflight(r) && r.Header.Get(headerRequestMethod) == c.match.Method
}

// preflight answers what a browser asks, instead of a backend.
func (s *Server) preflight(t *trip, w *answer, r *http.Request, c *mesh.CORS) {
	if !originAllowed(c, t.origin) {
		s.refuse(t, w, &Refusal{http.StatusForbidden, ReasonOrigin, nil})
		return
	}
	t.reason = ReasonPreflight
	h := w.Header()
	share(h, t)
	allow := func(name string, listed []string, asked string) {
		switch {
		case !slices.Equal(listed, []string{"*"}):
			if len(listed) > 0 {
				h.Set(name, strings.Join(listed, ", "))
			}
		case asked != "":
			h.Set(name, asked) // a star means nothing where there are credentials, and what was asked for means the same without
		}
	}
	allow(headerAllowMethods, c.Methods, r.Header.Get(headerRequestMethod))
	allow(headerAllowHeaders, c.Headers, strings.Join(r.Header[headerRequestHeaders], ", "))
	h.Add("Vary", headerRequestMethod+", "+headerRequestHeaders)
	h.Set(headerMaxAge, strconv.FormatUint(uint64(c.MaxAge), 10))
	w.WriteHeader(http.StatusNoContent)
}

// share says in an answer whether a script may read it, by the filter of the backend, or else of the rule. What the backend says of it counts for nothing then.
func share(h http.Header, t *trip) {
	if t == nil || t.target == nil {
		return
	}
	c := t.target.Rule.Filters.CORS
	if t.backend != nil && t.backend.Filters.CORS != nil {
		c = t.backend.Filters.CORS
	}
	if c == nil {
		return
	}
	for _, name := range []string{headerAllowOrigin, headerAllowCredentials, headerExposeHeaders} {
		h.Del(name)
	}
	everybody := !c.Credentials && slices.Contains(c.Origins, "*")
	if !everybody {
		h.Add("Vary", "Origin") // also where it is not allowed: a cache must not give this answer to others
	}
	if !originAllowed(c, t.origin) {
		return
	}
	if h.Set(headerAllowOrigin, t.origin); everybody {
		h.Set(headerAllowOrigin, "*")
	}
	if c.Credentials {
		h.Set(headerAllowCredentials, "true")
	}
	expose := c.Expose
	if c.Credentials { // where a star would be a header of that name
		expose = slices.DeleteFunc(slices.Clone(expose), func(name string) bool { return name == "*" })
	}
	if len(expose) > 0 {
		h.Set(headerExposeHeaders, strings.Join(expose, ", "))
	}
}

// originAllowed says whether a filter names an origin.
func originAllowed(c *mesh.CORS, origin string) bool {
	if origin == "" {
		return false
	}
	for _, allowed := range c.Origins {
		if allowed == "*" || originFits(allowed, origin) {
			return true
		}
	}
	return false
}

// originFits compares an origin with one that is allowed, whose host may hold a star for any text but none. Ports that go without saying may be said.
func originFits(allowed, origin string) bool {
	scheme, want, ok := strings.Cut(allowed, "://")
	is, have, isOrigin := strings.Cut(origin, "://")
	if !ok || !isOrigin || !strings.EqualFold(scheme, is) {
		return false
	}
	wantHost, wantPort := splitOrigin(scheme, want)
	host, port := splitOrigin(scheme, have)
	if wantPort != port || strings.ContainsAny(host, "/\\?#@") { // no host, whatever it ends with
		return false
	}
	before, after, wild := strings.Cut(wantHost, "*")
	if !wild {
		return host == wantHost
	}
	return len(host) > len(before)+len(after) && strings.HasPrefix(host, before) && strings.HasSuffix(host, after)
}

// splitOrigin takes an origin behind its scheme apart: the host in lower case, and the port.
func splitOrigin(scheme, hostport string) (host, port string) {
	host = strings.ToLower(hostport)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host, port = host[:i], host[i+1:]
	}
	if port == "" {
		port = strconv.Itoa(int(wellKnown(strings.ToLower(scheme), 0)))
	}
	return host, port
}
