// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net"
	"net/http"
	"strings"
)

// hosts finds values by host: exactly, then by the longest wildcard, then what is for every host.
type hosts[V any] struct {
	exact map[string]V
	wild  map[string]V // by what follows the star: ".example.com"
	any   V
	every bool // any is set
}

func newHosts[V any]() hosts[V] { return hosts[V]{exact: map[string]V{}, wild: map[string]V{}} }

// get finds what was put for a hostname: exact, "*.example.com", or "" for every host.
func (h *hosts[V]) get(hostname string) (V, bool) {
	switch {
	case hostname == "":
		return h.any, h.every
	case strings.HasPrefix(hostname, "*."):
		v, ok := h.wild[hostname[1:]]
		return v, ok
	default:
		v, ok := h.exact[hostname]
		return v, ok
	}
}

func (h *hosts[V]) put(hostname string, v V) {
	switch {
	case hostname == "":
		h.any, h.every = v, true
	case strings.HasPrefix(hostname, "*."):
		h.wild[hostname[1:]] = v
	default:
		h.exact[hostname] = v
	}
}

// each calls f for the values that fit a host, the most specific first, until it says true.
func (h *hosts[V]) each(host string, f func(V) bool) bool {
	if v, ok := h.exact[host]; ok && f(v) {
		return true
	}
	if len(h.wild) > 0 {
		// A star stands for one label or more, never for none.
		for i := 1; i < len(host); i++ {
			if host[i] != '.' {
				continue
			}
			if v, ok := h.wild[host[i:]]; ok && f(v) {
				return true
			}
		}
	}
	return h.every && f(h.any)
}

// best is the value that fits a host best.
func (h *hosts[V]) best(host string) (best V, ok bool) {
	ok = h.each(host, func(v V) bool {
		best = v
		return true
	})
	return best, ok
}

// hostOf is the host that a request asks for: lower case, without port and without a dot at the end.
func hostOf(hostport string) string {
	host := hostport
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		if strings.IndexByte(host, ':') == i || host[0] == '[' {
			if h, _, err := net.SplitHostPort(host); err == nil {
				host = h
			}
		}
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	host = strings.TrimSuffix(host, ".")
	return strings.ToLower(host) // does not allocate if it is lower case
}

// maxHost bounds the host that a request asks for, in bytes; a name of the DNS has at most 253 (RFC 1035, 2.3.4), and a dot at its end.
const maxHost = 255

// oneHost says whether a request names one host. HTTP/2 has it in :authority, and may repeat it in a header, which must then say the same (RFC 9113 section 8.3.1): what is
// routed by the one must not reach a backend by the other.
func oneHost(r *http.Request) bool {
	values, repeated := r.Header["Host"]
	if !repeated {
		return true
	}
	delete(r.Header, "Host")
	return len(values) == 1 && strings.EqualFold(values[0], r.Host)
}
