// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// writeRequest writes a request, as Request.Write does. That formats, sorts and copies the headers of each; nearly all requests have no body and nothing that
// would have to be made harmless first, and are written as they are.
func writeRequest(w *bufio.Writer, r *http.Request) error {
	uri := r.URL.RequestURI()
	if r.ContentLength != 0 || r.Body != nil && r.Body != http.NoBody || r.Close || len(r.TransferEncoding)+len(r.Trailer) > 0 ||
		!plainHost(r.Host) || !plainURI(uri) || !httpguts.ValidHeaderFieldName(r.Method) {
		return r.Write(w)
	}
	put := func(parts ...string) {
		for _, p := range parts {
			_, _ = w.WriteString(p) // the buffer keeps the first error, and Flush says it
		}
	}
	put(r.Method, " ", uri, " HTTP/1.1\r\nHost: ", r.Host, "\r\n")
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch: // which usually have one, so that it is said that they have none (RFC 9110, 8.6)
		put("Content-Length: 0\r\n")
	}
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) {
			continue // a filter's: no client's gets so far
		}
		for _, v := range values {
			if name == "User-Agent" && v == "" { // says that there is none
				continue
			}
			if strings.ContainsAny(v, "\r\n") {
				v = lineEnds.Replace(v)
			}
			put(name, ": ", textproto.TrimString(v), "\r\n")
		}
	}
	put("\r\n")
	return nil
}

// lineEnds keeps a value from being taken for another header.
var lineEnds = strings.NewReplacer("\n", " ", "\r", " ")

// plainHost says whether a host may be written as it is: it is ASCII, has no zone, and nothing in it that ends it.
func plainHost(host string) bool {
	if host == "" {
		return false
	}
	for i := range len(host) {
		if c := host[i]; c >= 0x80 || c == '%' {
			return false
		}
	}
	return httpguts.ValidHostHeader(host)
}

// plainURI says whether a URI has nothing in it that would end the line or a part of it.
func plainURI(uri string) bool {
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return uri != ""
}
