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
	if err := w.Flush(); err != nil {
		return "", err
	}
	return out.String(), nil
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
		r := &http.Request{
			Method: method, Host: host, URL: &url.URL{Scheme: "http", Host: "192.0.2.1:80", Path: path, RawQuery: query}, Body: http.NoBody,
			Header: http.Header{"User-Agent": {"test"}, name: {value, "other"}},
		}
		if name == "User-Agent" {
			r.Header[name] = []string{value} // of several the library writes the first
		}
		ours, err := written(t, r, writeRequest)
		if !isToken(method) || strings.ContainsFunc(r.URL.RequestURI(), isGap) { // the library does not look at all of it
			if err == nil {
				t.Errorf("%q is written", ours)
			}
			return
		}
		theirs, wantErr := written(t, r, func(w *bufio.Writer, r *http.Request) error { return r.Write(w) })
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, and the library says %v", err, wantErr)
		}
		if !slices.Equal(headLines(ours), headLines(theirs)) {
			t.Errorf("%q, and the library writes %q", ours, theirs)
		}
	})
}

// What is judged is what a backend reads.
func FuzzJudgedRequest(f *testing.F) {
	f.Add("GET", "/cart?a=b;c", "shop.example.com:8080")
	f.Add("GET /admin?", "/public", "x")
	f.Add("GET", "/public?a HTTP/1.1", "x")
	f.Add("GET", "http://[fe80::1%25a b]/", "[fe80::1%a b]")
	f.Add("POST", "//a/../b%20c", "x y")
	f.Add("OPTIONS", "*", "x")
	f.Fuzz(func(t *testing.T, method, target, host string) {
		u, err := url.ParseRequestURI(target)
		r := &http.Request{Method: method, URL: u, RequestURI: target, Host: host, Header: http.Header{}}
		if err != nil || u.Opaque != "" || host == "" || method == http.MethodConnect || malformed(r) != nil {
			return // is refused, or never sent as it came
		}
		text, err := written(t, r, writeRequest)
		if err != nil {
			return
		}
		got, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got.Method != method || got.RequestURI != u.RequestURI() || got.Host != host && !strings.Contains(host, "%") { // a zone is ours alone
			t.Errorf("%q is read as %q %q %q", text, got.Method, got.RequestURI, got.Host)
		}
	})
}

// isGap says whether a character ends a part of a line.
func isGap(c rune) bool { return c <= ' ' || c == 0x7f }

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") == ""
}
