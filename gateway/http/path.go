// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/url"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// pathOf is the path by which a request is matched, and with which it is sent on: as the client wrote it, but in one form only, so that no
// other spelling of a path slips past the rule for it. Characters that need no escape have none (RFC 3986, 6.2.2.2), and there is no "." and
// ".." (6.2.2.3). An escaped slash stays escaped: it is none. The answer is false for what is no path, such as "*".
func pathOf(u *url.URL) (string, bool) {
	p := u.RawPath // as the client wrote it, with what should have been escaped: EscapedPath would take an escaped slash beside that for a slash
	if p == "" {
		p = u.EscapedPath()
	}
	if p == "" {
		return "/", true
	}
	if p[0] != '/' {
		return "", false
	}
	if u.RawPath != "" || strings.IndexByte(p, '%') >= 0 || strings.Contains(p, "/.") {
		p = mesh.PlainPath(p)
	}
	return p, true
}

// replacePrefix puts something else in place of the prefix that a rule matched; what follows begins with a slash or is nothing.
func replacePrefix(p, prefix, with string) string {
	rest := p[len(prefix):]
	if prefix == "/" {
		rest = p
	}
	p = strings.TrimSuffix(with, "/") + rest
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	return p
}

// setPath makes u have the escaped path p.
func setPath(u *url.URL, p string) {
	plain, err := url.PathUnescape(p)
	if err != nil { // of a rule, whose path need not be escaped as it should be
		plain = p
	}
	u.Path, u.RawPath = plain, p
	if u.Opaque != "" {
		u.Opaque = ""
	}
}
