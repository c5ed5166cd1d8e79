// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// hosts reads patterns of hosts, and of their beginnings and ends, in the form that requests are compared by (mesh.PlainAuthority). One that no request has in that form would never fit:
// it is lost, rather than not in force in silence.
func (t *ruleTranslator) hosts(patterns []string, what string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, p := range patterns {
		form, ok := hostForm(strings.ToLower(p))
		if !ok {
			t.lose(fmt.Sprintf("%s: %.100q is neither a host, nor the beginning or the end of one in the form that hosts are compared in", what, p))
			continue
		}
		out = append(out, t.texts([]string{form}, what)...)
	}
	return out
}

// hostForm gives the form of one pattern, in small letters. false: it has none.
func hostForm(s string) (string, bool) {
	begin, isBegin := strings.CutSuffix(s, "*")
	end, isEnd := strings.CutPrefix(s, "*")
	switch {
	case s == "*":
		return s, true
	case isBegin:
		begin, ok := hostBegin(begin)
		return begin + "*", ok
	case isEnd:
		end, ok := hostEnd(end)
		return "*" + end, ok
	}
	if address, err := netip.ParseAddr(s); err == nil {
		return address.Unmap().String(), address.Zone() == ""
	}
	return wholeHost(s)
}

// wholeHost is a host, with its port if it has one.
func wholeHost(s string) (string, bool) {
	host, port, ok := mesh.PlainAuthority(s)
	switch {
	case !ok:
		return "", false
	case strings.IndexByte(host, ':') >= 0:
		host = "[" + host + "]"
	}
	if port == "" {
		return host, true
	}
	return host + ":" + port, true
}

// hostBegin is how a host begins: with a part of itself, or whole and with a part of its port.
func hostBegin(s string) (string, bool) {
	if at := strings.IndexByte(s, ']'); at >= 0 { // the rest is behind the address
		host, ok := wholeHost(s[:at+1])
		return host + s[at+1:], ok && (at+1 == len(s) || portBegin(s[at+1:]))
	}
	if strings.HasPrefix(s, "[") || strings.Count(s, ":") > 1 {
		return s, partOfAddress(strings.TrimPrefix(s, "["))
	}
	if at := strings.IndexByte(s, ':'); at >= 0 {
		host, ok := wholeHost(s[:at])
		return host + s[at:], ok && portBegin(s[at:])
	}
	return s, partOfName(s) && s[0] != '.'
}

// portBegin says whether a colon and the digits after it are how the port of a request may begin.
func portBegin(s string) bool {
	port, ok := mesh.PlainPort(s)
	return ok && s == ":"+port
}

// hostEnd is how a host ends: with a part of itself, with its port if it has one.
func hostEnd(s string) (string, bool) {
	host, more := s, ""
	if at := strings.LastIndexByte(s, ':'); at >= 0 && strings.IndexByte(s[at:], ']') < 0 {
		port, ok := mesh.PlainPort(s[at:])
		if !ok || port == "" {
			return "", false
		}
		host, more = s[:at], ":"+port
	}
	if address, isAddress := strings.CutSuffix(host, "]"); isAddress {
		return host + more, partOfAddress(strings.TrimPrefix(address, "["))
	}
	host = strings.TrimSuffix(host, ".")
	return host + more, host == "" && more != "" || partOfName(host)
}

// partOfName says whether a name may have that in it.
func partOfName(s string) bool {
	_, _, ok := mesh.PlainAuthority("x" + s + "x")
	return ok && s != "" && !strings.Contains(s, ":")
}

// partOfAddress says whether an address of IPv6 has that in it however it is written: zeros that are left out, or are there and need not be, are written in several ways.
func partOfAddress(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c == ':' && (i == 0 || s[i-1] != ':'), c >= 'a' && c <= 'f', c >= '1' && c <= '9':
		case c == '0' && i > 0 && s[i-1] != ':':
		default:
			return false
		}
	}
	return true
}
