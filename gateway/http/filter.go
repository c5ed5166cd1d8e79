// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// change does to headers what a filter says.
func change(h http.Header, c *mesh.HeaderChange) {
	for _, name := range c.Remove {
		h.Del(name)
	}
	for _, p := range c.Set {
		h[p.Name] = []string{p.Value}
	}
	for _, p := range c.Add {
		h[p.Name] = append(slices.Clip(h[p.Name]), p.Value) // the others may be somebody else's too
	}
}

// changeRequest is change for a request, whose Host is no header in Go.
func changeRequest(r *http.Request, c *mesh.HeaderChange) {
	change(r.Header, c)
	if v := r.Header["Host"]; len(v) > 0 {
		r.Host = v[0]
		delete(r.Header, "Host")
	}
}

// newPath is what a redirect or a rewrite makes of a path.
func newPath(p string, c mesh.PathChange, prefix string) string {
	switch c.Kind {
	case mesh.PathReplaced:
		if c.Value == "" || c.Value[0] != '/' {
			return "/" + c.Value
		}
		return c.Value
	case mesh.PathPrefixReplaced:
		return replacePrefix(p, prefix, c.Value)
	default:
		return p
	}
}

// location is where a redirect sends a request.
func location(r *http.Request, at found, d *mesh.HTTPRedirect) string {
	u := url.URL{Scheme: "http", RawQuery: r.URL.RawQuery}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	port := at.listener.Port
	if d.Scheme != "" {
		u.Scheme = strings.ToLower(d.Scheme)
		port = wellKnown(u.Scheme, port)
	}
	if d.Port != 0 {
		port = d.Port
	}
	host := d.Hostname
	if host == "" {
		host = hostOf(r.Host)
	}
	if port == wellKnown(u.Scheme, 0) {
		if u.Host = host; strings.IndexByte(host, ':') >= 0 {
			u.Host = "[" + host + "]"
		}
	} else {
		u.Host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	setPath(&u, newPath(at.path, d.Path, at.target.Prefix))
	return u.String()
}

// wellKnown is the port that a scheme has if none is named.
func wellKnown(scheme string, otherwise uint16) uint16 {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return otherwise
}

// rewrite changes what is asked for, and how.
func rewrite(out *http.Request, w *mesh.HTTPRewrite, path, prefix string) {
	if w.Hostname != "" {
		out.Host = w.Hostname
	}
	if w.Path.Kind != mesh.PathKept {
		setPath(out.URL, newPath(path, w.Path, prefix))
	}
}
