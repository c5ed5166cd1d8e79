// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// everything is what a rule without a match matches.
func everything() []mesh.HTTPMatch { return []mesh.HTTPMatch{{Path: "/"}} }

// matchesOf reads the matches of a rule; a problem names the field that is not served.
func matchesOf[M any](in []M, read func(*M) (mesh.HTTPMatch, string)) ([]mesh.HTTPMatch, string) {
	var out []mesh.HTTPMatch
	for i := range in {
		m, problem := read(&in[i])
		if problem == "" {
			problem = m.Fault()
		}
		if problem != "" {
			return nil, fmt.Sprintf("matches[%d].%s", i, problem)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return everything(), ""
	}
	return out, ""
}

// match reads one match of a rule; a problem names the field that is not served.
func match(m *gatewayv1.HTTPRouteMatch) (out mesh.HTTPMatch, problem string) {
	out.Path = "/"
	if p := m.Path; p != nil {
		if p.Value != nil && *p.Value != "" {
			out.Path = mesh.PlainPath(*p.Value) // the one form that requests have, too
		}
		kind := gatewayv1.PathMatchPathPrefix
		if p.Type != nil {
			kind = *p.Type
		}
		switch kind {
		case gatewayv1.PathMatchExact:
			out.Exact = true
		case gatewayv1.PathMatchPathPrefix:
			// A slash at the end says nothing: "/a/" and "/a" are the same prefix.
			if out.Path = strings.TrimRight(out.Path, "/"); out.Path == "" {
				out.Path = "/"
			}
		default:
			return out, fmt.Sprintf("path.type %q is not supported", kind)
		}
	}
	if m.Method != nil {
		out.Method = string(*m.Method)
	}
	for i, h := range m.Headers {
		if h.Type != nil && *h.Type != gatewayv1.HeaderMatchExact {
			return out, fmt.Sprintf("headers[%d].type %q is not supported", i, *h.Type)
		}
		out.Headers = addPair(out.Headers, textproto.CanonicalMIMEHeaderKey(string(h.Name)), h.Value)
	}
	for i, q := range m.QueryParams {
		if q.Type != nil && *q.Type != gatewayv1.QueryParamMatchExact {
			return out, fmt.Sprintf("queryParams[%d].type %q is not supported", i, *q.Type)
		}
		out.Query = addPair(out.Query, string(q.Name), q.Value)
	}
	return out, ""
}

// addPair leaves out a name that is there already: of several with a name, the first counts.
func addPair(pairs []mesh.NameValue, name, value string) []mesh.NameValue {
	if slices.ContainsFunc(pairs, func(p mesh.NameValue) bool { return p.Name == name }) {
		return pairs
	}
	return append(pairs, mesh.NameValue{Name: name, Value: value})
}

// filters reads a list of filters. What is not served becomes a problem.
func (b *ruleBuilder) filters(at string, in []gatewayv1.HTTPRouteFilter, problem *trouble) mesh.HTTPFilters {
	var out mesh.HTTPFilters
	for i := range in {
		f, at := &in[i], fmt.Sprintf("%s.filters[%d]", at, i)
		switch {
		case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
			out.Request = headerChange(f.RequestHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
			out.Response = headerChange(f.ResponseHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil:
			out.Redirect = redirect(f.RequestRedirect)
		case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil:
			out.Rewrite = &mesh.HTTPRewrite{Hostname: value(f.URLRewrite.Hostname), Path: pathChange(f.URLRewrite.Path)}
		case f.Type == gatewayv1.HTTPRouteFilterRequestMirror && f.RequestMirror != nil:
			out.Mirrors = append(out.Mirrors, b.mirror(at, f.RequestMirror))
		case f.Type == gatewayv1.HTTPRouteFilterCORS && f.CORS != nil:
			out.CORS = cors(f.CORS)
		default:
			problem.add(string(gatewayv1.RouteReasonUnsupportedValue), "%s.type: %q is not supported", at, f.Type)
		}
	}
	if out.Redirect != nil && out.Rewrite != nil {
		problem.add(string(gatewayv1.RouteReasonIncompatibleFilters), "%s.filters: a redirect and a rewrite exclude each other", at)
	}
	return out
}

func (b *ruleBuilder) mirror(at string, f *gatewayv1.HTTPRequestMirrorFilter) mesh.HTTPMirror {
	out := mesh.HTTPMirror{Backend: b.backend(at+".requestMirror.backendRef", f.BackendRef), Numerator: 100, Denominator: 100}
	switch {
	case f.Percent != nil:
		out.Numerator = uint32(max(*f.Percent, 0))
	case f.Fraction != nil:
		out.Numerator = uint32(max(f.Fraction.Numerator, 0))
		if d := f.Fraction.Denominator; d != nil && *d > 0 {
			out.Denominator = uint32(*d)
		}
	}
	return out
}

func headerChange(f *gatewayv1.HTTPHeaderFilter) mesh.HeaderChange {
	var out mesh.HeaderChange
	for _, h := range f.Set {
		out.Set = addPair(out.Set, textproto.CanonicalMIMEHeaderKey(string(h.Name)), h.Value)
	}
	for _, h := range f.Add {
		out.Add = addPair(out.Add, textproto.CanonicalMIMEHeaderKey(string(h.Name)), h.Value)
	}
	for _, name := range f.Remove {
		out.Remove = append(out.Remove, textproto.CanonicalMIMEHeaderKey(name))
	}
	return out
}

func redirect(f *gatewayv1.HTTPRequestRedirectFilter) *mesh.HTTPRedirect {
	out := &mesh.HTTPRedirect{Scheme: value(f.Scheme), Hostname: value(f.Hostname), Path: pathChange(f.Path), Status: 302}
	if f.Port != nil {
		out.Port = uint16(*f.Port)
	}
	if f.StatusCode != nil {
		out.Status = uint16(*f.StatusCode)
	}
	return out
}

func pathChange(p *gatewayv1.HTTPPathModifier) mesh.PathChange {
	switch {
	case p == nil:
	case p.Type == gatewayv1.FullPathHTTPPathModifier && p.ReplaceFullPath != nil:
		return mesh.PathChange{Kind: mesh.PathReplaced, Value: *p.ReplaceFullPath}
	case p.Type == gatewayv1.PrefixMatchHTTPPathModifier && p.ReplacePrefixMatch != nil:
		return mesh.PathChange{Kind: mesh.PathPrefixReplaced, Value: *p.ReplacePrefixMatch}
	}
	return mesh.PathChange{}
}

// value is what p points to, or nothing.
func value[T ~string](p *T) string {
	if p == nil {
		return ""
	}
	return string(*p)
}
