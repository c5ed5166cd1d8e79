// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// plainHeaders is how many lines of headers a plain request has at most. Browsers send about twenty.
const plainHeaders = 64

// headEnd is what a head ends with.
var headEnd = []byte("\r\n\r\n")

// plainRequest understands the request whose head is at the beginning of what came, if it is of the plain kind: HTTP/1.1, without a body, with nothing to agree on about its connection, and written in
// the one way that everybody understands alike. All others are the library's to judge, whether they are wrong or only rare: what is accepted here net/http accepts too, and understands in the same way,
// which a fuzz target compares. size is how much of what came the head is; r is nil if it is another kind, or not there whole,
// and has besides what a bare request has.
func plainRequest(came []byte, bare *http.Request) (r *http.Request, size int) {
	end := bytes.Index(came, headEnd)
	if end < 0 {
		return nil, 0
	}
	size = end + len(headEnd)
	head := string(came[:end+2]) // what is taken out of it is not copied again; each line ends with \r\n
	line, rest, _ := strings.Cut(head, "\r\n")
	method, line, _ := strings.Cut(line, " ")
	target, protocol, _ := strings.Cut(line, " ")
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
	default:
		return nil, 0
	}
	if protocol != "HTTP/1.1" || target == "" || target[0] != '/' || !visible(target) {
		return nil, 0
	}
	u, err := url.ParseRequestURI(target)
	lines := strings.Count(rest, "\n")
	if err != nil || lines > plainHeaders {
		return nil, 0
	}
	h := make(http.Header, lines)
	values := make([]string, lines) // of all headers, in one allocation
	host := ""
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, ok := plainHeader(line)
		if !ok {
			return nil, 0
		}
		if name == "Host" {
			if host != "" || value == "" || !httpguts.ValidHostHeader(value) {
				return nil, 0
			}
			host = value
			continue
		}
		if there, repeated := h[name]; repeated {
			h[name] = append(there, value)
			continue
		}
		values[0] = value
		h[name], values = values[:1:1], values[1:]
	}
	if host == "" {
		return nil, 0
	}
	r = new(http.Request)
	*r = *bare
	r.Method, r.URL, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor = method, u, target, protocol, 1, 1
	r.Header, r.Host, r.Body = h, host, http.NoBody
	return r, size
}

// plainHeader takes a line of a head apart. A name that says something about the body or the connection makes a request of another kind, as do a line that belongs to the one before it, and a byte that some take for
// more than itself.
func plainHeader(line string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(line, ":")
	if !ok || !httpguts.ValidHeaderFieldName(name) {
		return "", "", false
	}
	for i := range len(value) { // before it is trimmed, as that takes ends of lines away, too
		if c := value[i]; (c < ' ' && c != '\t') || c > '~' {
			return "", "", false
		}
	}
	value = textproto.TrimString(value)
	switch name = textproto.CanonicalMIMEHeaderKey(name); name {
	case "Content-Length", "Transfer-Encoding", "Trailer", "Upgrade", "Expect", "Http2-Settings", "Pragma": // the last the library understands in a way of its own
		return "", "", false
	case "Connection":
		return name, value, strings.EqualFold(value, "keep-alive")
	}
	return name, value, true
}

// visible says whether a target has nothing in it but what can be seen, in ASCII, and no fragment, which no client sends.
func visible(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c > '~' || c == '#' {
			return false
		}
	}
	return true
}
