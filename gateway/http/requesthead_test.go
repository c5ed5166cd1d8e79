// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// headLines are those of a request's head, the first one first and the others in order.
func headLines(text string) []string {
	out := strings.Split(text, "\r\n")
	slices.Sort(out[1:])
	return out
}

// written is what a function writes of a request.
func written(t *testing.T, r *http.Request, write func(*bufio.Writer, *http.Request) error) (string, error) {
	t.Helper()
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	if err := write(w, r); err != nil {
		return "", err
	}
	return out.String(), w.Flush()
}

// A request is written as the library writes it, but for the order of headers.
func FuzzWriteRequest(f *testing.F) {
	for _, host := range []string{"shop.example.com", "shop.example.com:8080", "[fe80::1%eth0]:80", "bücher.example", "a b", "a\r\nX: y", ""} {
		f.Add("GET", host, "/cart", "a=b;c", "X-Name", "value")
	}
	f.Add("POST", "a", "/%2f/é", "", "User-Agent", "")
	f.Add("PATCH", "a", "/", "x=\x01", "Content-Length", "7")
	f.Add("GET", "a", "/", "x y", "Transfer-Encoding", "chunked")
	f.Add("GET", "a", "//b/../c", "", "X-Name", " one\r\nX-Other: two ")
	f.Add("GET / HTTP/1.1\r\nX: y\r\n", "a", "/", "", "Bad Name", "v")
	f.Add("DELETE", "a", "*", "", "Te", "trailers")
	f.Fuzz(func(t *testing.T, method, host, path, query, name, value string) {
		if !isToken(method) {
			method = "GET" // servers take no other ones, and the library does not look
		}
		r := &http.Request{
			Method: method, Host: host, URL: &url.URL{Scheme: "http", Host: "192.0.2.1:80", Path: path, RawQuery: query}, Body: http.NoBody,
			Header: http.Header{"User-Agent": {"test"}, name: {value, "other"}},
		}
		if name == "User-Agent" {
			r.Header[name] = []string{value} // of several the library writes the first
		}
		ours, err := written(t, r, writeRequest)
		theirs, wantErr := written(t, r, func(w *bufio.Writer, r *http.Request) error { return r.Write(w) })
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, and the library says %v", err, wantErr)
		}
		if !slices.Equal(headLines(ours), headLines(theirs)) {
			t.Errorf("%q, and the library writes %q", ours, theirs)
		}
	})
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") == ""
}
