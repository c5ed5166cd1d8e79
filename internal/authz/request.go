// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Request is what policies see of a request. Nothing of it is changed, or kept.
type Request struct {
	// Host is in lower case, without port and final dot; Authority is what the client wrote, in lower case.
	Host, Authority string
	Method          string
	// Path is that by which the request is routed, or with which it is sent on: escaped, and without a query.
	Path string
	// Header is what is sent on, with names in canonical form and values without white space around them.
	Header map[string][]string
}

// requestHolds says whether what is asked of a request is so.
//
// Those behind us may read the same bytes in several ways: they take two slashes for one, decode what is escaped, or look at the first of several headers.
// What keeps somebody out (what a DENY rule asks for, and the exception from an ALLOW rule) therefore counts if any reading fits, and what lets somebody in (what
// an ALLOW rule asks for, and the exception from a DENY rule) only if all of them do. What nobody can be sure of keeps out, and lets nobody in.
func (s *subject) requestHolds(m *mesh.RequestMatch) bool {
	if s.request == nil {
		return s.deny != s.later
	}
	wide := s.deny
	if len(m.Methods) > 0 && !s.methodFits(m.Methods, wide) || len(m.NotMethods) > 0 && s.methodFits(m.NotMethods, !wide) ||
		len(m.Hosts) > 0 && !s.hostFits(m.Hosts, wide) || len(m.NotHosts) > 0 && s.hostFits(m.NotHosts, !wide) ||
		len(m.Paths) > 0 && !s.pathFits(m.Paths, wide) || len(m.NotPaths) > 0 && s.pathFits(m.NotPaths, !wide) {
		return false
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		if len(h.Values) > 0 && !s.headerFits(h.Name, h.Values, wide) || len(h.NotValues) > 0 && s.headerFits(h.Name, h.NotValues, !wide) {
			return false
		}
	}
	return true
}

// work bounds what one judgement may cost, in comparisons of strings of ordinary length: about a millisecond. A request that costs more counts as one that cannot be read.
const work = 1 << 18

// spend takes from what the judgement may cost; false: that is used up.
func (s *subject) spend(n int) bool {
	s.spent += n
	return s.spent <= work
}

// methodFits compares the method. Some take it in any case of letters.
func (s *subject) methodFits(in []mesh.StringMatch, wide bool) bool {
	method := s.request.Method
	if !s.spend(len(in)) {
		return wide
	}
	if !wide {
		return anyFits(in, method)
	}
	method = strings.ToUpper(method)
	return slices.ContainsFunc(in, func(m mesh.StringMatch) bool {
		m.Value = strings.ToUpper(m.Value)
		return fits(&m, method)
	})
}

// hostFits looks at the host with its port and without: it is the same one. One that is none, or not there at all, is nobody knows whose.
func (s *subject) hostFits(in []mesh.StringMatch, wide bool) bool {
	r := s.request
	if !s.spend(len(in)) || !plainAuthority(r.Authority) {
		return wide
	}
	if anyFits(in, r.Host) || r.Authority != r.Host && anyFits(in, r.Authority) {
		return true
	}
	return wide && slices.ContainsFunc(in, func(m mesh.StringMatch) bool { // who names no port may mean the one that is not meant
		host, _, named := strings.Cut(m.Value, ":")
		return named && m.Kind == mesh.MatchExact && host == r.Host && strings.IndexByte(r.Authority, ':') < 0
	})
}

// plainAuthority says whether an authority is a host of which there is one reading: a name or an address, with or without a port.
func plainAuthority(a string) bool {
	host, port := a, ""
	if end := strings.LastIndexByte(a, ']'); end >= 0 {
		host, port = a[:end+1], a[end+1:]
		if !strings.HasPrefix(host, "[") || strings.ContainsFunc(host[1:end], func(c rune) bool { return !strings.ContainsRune("0123456789abcdef:.", c) }) {
			return false
		}
	} else {
		if at := strings.IndexByte(a, ':'); at >= 0 {
			host, port = a[:at], a[at:]
		}
		if strings.HasPrefix(host, ".") || strings.Contains(host, "..") || strings.ContainsFunc(host, func(c rune) bool {
			return c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
		}) {
			return false
		}
	}
	if port != "" {
		if port[0] != ':' || strings.ContainsFunc(port[1:], func(c rune) bool { return c < '0' || c > '9' }) {
			return false
		}
	}
	return host != ""
}
