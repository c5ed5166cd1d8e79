// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzPathOf: a path has one form only. Whoever decides by what pathOf gives, decides about what is sent on: taking the form of the form again changes
// nothing, no "." or ".." is left in any spelling, the escapes that are left are of characters that need one, and no slash has come that was not there.
func FuzzPathOf(f *testing.F) {
	for _, p := range []string{
		"/", "", "*", "//admin", "/a/./b", "/a/../../admin", "/a/%2e%2e/admin", "/a/.%2E", "/a/..;/b", "/a%2fb", "/a%2F..%2fb", "/%252e%252e/a", "/%25%32%65/",
		"/a%2Fb{c", "/a%2f|", "/a%3Fb^", "/ADMIN", "/%41dmin", "/admin.", "/admin#x", "/admin%23x", "/a\\..\\b", "/a%5c..%5Cb", "/é", "/%C3%a9", "/.../a", "/.a/..b/", "/a//../b", "/..",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, written string) {
		u, err := url.ParseRequestURI(written)
		if err != nil || u.Scheme != "" {
			return // nobody can ask for it
		}
		p, ok := pathOf(u)
		if !ok {
			if e := u.EscapedPath(); e == "" || e[0] == '/' {
				t.Fatalf("%q is said to be no path", written)
			}
			return
		}
		again, err := url.ParseRequestURI("http://x" + p)
		if err != nil {
			t.Fatalf("%q is sent on as %q: %v", written, p, err)
		}
		if q, ok := pathOf(again); !ok || q != p {
			t.Fatalf("%q has the form %q, and that one %q", written, p, q)
		}
		if p != "/" && strings.Count(p, "/") > strings.Count(written, "/") {
			t.Fatalf("%q has the form %q, with more slashes", written, p)
		}
		for _, e := range strings.Split(p, "/") {
			if e == "." || e == ".." {
				t.Fatalf("%q has the form %q", written, p)
			}
		}
		for i := range len(p) {
			if p[i] != '%' {
				continue
			}
			if i+2 >= len(p) || p[i:i+3] != strings.ToUpper(p[i:i+3]) || plainByte(p[i:i+3]) {
				t.Fatalf("%q has the form %q, with an escape that has another spelling", written, p)
			}
		}
	})
}

// A character that should have been escaped is, and nothing else changes for it.
func TestPathWithWhatNeedsAnEscape(t *testing.T) {
	for written, want := range map[string]string{
		"/a{c": "/a%7Bc", "/a%2Fb{c": "/a%2Fb%7Bc", "/a%2fb|c": "/a%2Fb%7Cc", `/a%2Fb"c`: "/a%2Fb%22c", "/a%3Fb^": "/a%3Fb%5E", "/%41%2F<": "/A%2F%3C",
		"/a%2F%2e%2e/{": "/a%2F../%7B", "/x/%2e%2e/{%2F": "/%7B%2F", "/é%2F": "/%C3%A9%2F", "/a!(b)[c]%2F{": "/a!(b)[c]%2F%7B", "/a%5Cb\\": "/a%5Cb%5C",
	} {
		u, err := url.ParseRequestURI(written)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := pathOf(u); !ok || got != want {
			t.Errorf("%q has the form %q, want %q", written, got, want)
		}
	}
}

// plainByte says whether an escape is of a character that needs none.
func plainByte(escape string) bool {
	c, err := url.PathUnescape(escape)
	return err == nil && strings.Contains("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", c)
}
