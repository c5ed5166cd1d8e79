// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// writeRequest writes a request, as Request.Write does. That formats, sorts and copies the headers of each; nearly all requests have no body and nothing that
// would have to be made harmless first, and are written as they are.
func writeRequest(w *bufio.Writer, r *http.Request) error {
	uri := r.URL.RequestURI()
	if !plainLine(r.Method, uri) {
		return errLine
	}
	if r.ContentLength != 0 || r.Body != nil && r.Body != http.NoBody || r.Close || len(r.TransferEncoding)+len(r.Trailer) > 0 ||
		!plainHost(r.Host) {
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

// malformed says why a request is none that a backend would understand as it was judged, or nil. Clients of HTTP/2, and those that name a zone of an address, may say anything where the head of one in HTTP/1.1 has its parts.
func malformed(r *http.Request) *Refusal {
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method): // both are tokens
		return &Refusal{http.StatusBadRequest, ReasonMethod, nil}
	case !httpguts.ValidHostHeader(r.Host):
		return &Refusal{http.StatusBadRequest, ReasonBadHost, nil}
	case !plainURI(r.RequestURI):
		return &Refusal{http.StatusBadRequest, ReasonBadPath, nil}
	}
	return nil
}

// errLine refuses to write what malformed lets nobody ask for, however it came about.
var errLine = &Refusal{http.StatusBadRequest, ReasonBadPath, errors.New("the line of the request would have more than its parts")}

// plainLine says whether the line of a request has only its parts.
func plainLine(method, uri string) bool {
	return httpguts.ValidHeaderFieldName(method) && plainURI(uri)
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
