// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Request is what policies see of a request. Nothing of it is changed, or kept.
type Request struct {
	// Host is in lower case, without port and final dot; Authority is what the client wrote, in lower case.
	Host, Authority string
	Method          string
	// Path is that by which the request is routed, and with which it is sent on.
	Path string
	// Header has its names in canonical form.
	Header map[string][]string
}

// requestHolds says whether what is asked of a request is so.
//
// Those behind us may read the same bytes in several ways: they take two slashes for one, decode what is escaped, or look at the first of several headers.
// What keeps somebody out (what a DENY rule asks for, and the exception from an ALLOW rule) therefore counts if any reading fits, and what lets somebody in only if
// the strict one does.
func (s *subject) requestHolds(m *mesh.RequestMatch) bool {
	r := s.request
	if r == nil {
		return s.deny != s.later
	}
	wide, narrow := anyReading, strictReading
	if !s.deny {
		wide, narrow = strictReading, anyReading
	}
	if len(m.Hosts) > 0 && !hostFits(m.Hosts, r) || hostFits(m.NotHosts, r) ||
		len(m.Methods) > 0 && !anyFits(m.Methods, r.Method) || anyFits(m.NotMethods, r.Method) ||
		len(m.Paths) > 0 && !pathFits(m.Paths, r.Path, wide) || pathFits(m.NotPaths, r.Path, narrow) {
		return false
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		values := r.Header[h.Name]
		if len(h.Values) > 0 && !headerFits(h.Values, values, wide) || headerFits(h.NotValues, values, narrow) {
			return false
		}
	}
	return true
}

// reading is how what can be read in several ways is read.
type reading bool

const (
	strictReading reading = false
	anyReading    reading = true
)

// hostFits looks at the host with its port and without: it is the same one.
func hostFits(in []mesh.StringMatch, r *Request) bool {
	return anyFits(in, r.Host) || r.Authority != r.Host && anyFits(in, r.Authority)
}

func headerFits(in []mesh.StringMatch, values []string, how reading) bool {
	switch len(values) {
	case 0:
		return false
	case 1:
		return anyFits(in, values[0])
	}
	if len(in) == 0 {
		return false
	}
	if anyFits(in, strings.Join(values, ",")) { // RFC 9110 §5.2
		return true
	}
	if how == strictReading {
		return false
	}
	for _, v := range values {
		if anyFits(in, v) {
			return true
		}
	}
	return false
}

func pathFits(in []mesh.StringMatch, path string, how reading) bool {
	if len(in) == 0 {
		return false
	}
	if anyFits(in, path) {
		return true
	}
	if how == strictReading {
		return false
	}
	plain := plainPath(path)
	return plain != path && anyFits(in, plain)
}

// plainPath is a path as the least careful of servers would read it: decoded, backslashes taken for slashes, without parameters of its elements, empty
// elements, "." and "..". It gives path itself, at no cost, if all of that changes nothing.
func plainPath(path string) string {
	if !strings.ContainsAny(path, "%\\;") && !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	p := path
	for range 2 { // twice, as some do
		p = unescape(p)
	}
	p = strings.ReplaceAll(p, "\\", "/")
	out := make([]string, 0, 8)
	elements := strings.Split(p, "/")
	for _, e := range elements {
		e, _, _ = strings.Cut(e, ";")
		switch e {
		case "", ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, e)
		}
	}
	p = "/" + strings.Join(out, "/")
	if len(out) > 0 && strings.HasSuffix(path, "/") {
		p += "/"
	}
	return p
}

// unescape decodes what can be decoded, and leaves the rest.
func unescape(p string) string {
	if strings.IndexByte(p, '%') < 0 {
		return p
	}
	var b strings.Builder
	b.Grow(len(p))
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			if high, low := hex(p[i+1]), hex(p[i+2]); high < 16 && low < 16 {
				b.WriteByte(high<<4 | low)
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// hex gives 16 for what is no digit.
func hex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// fitsTemplate says whether a path is of the form of a valid template.
func fitsTemplate(t, path string) bool {
	for {
		at := strings.IndexByte(t, '{')
		if at < 0 {
			return t == path
		}
		if !strings.HasPrefix(path, t[:at]) {
			return false
		}
		t, path = t[at:], path[at:]
		if strings.HasPrefix(t, "{**}") {
			return true
		}
		end := strings.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		if end == 0 {
			return false
		}
		t, path = t[len("{*}"):], path[end:]
	}
}
