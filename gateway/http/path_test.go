// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzPathOf: a path has one form only. Whoever decides by what pathOf gives, decides about what is sent on: taking the form of the form again changes
// nothing, no "." or ".." is left in any spelling, and the escapes that are left are of characters that need one.
func FuzzPathOf(f *testing.F) {
	for _, p := range []string{
		"/", "", "*", "//admin", "/a/./b", "/a/../../admin", "/a/%2e%2e/admin", "/a/.%2E", "/a/..;/b", "/a%2fb", "/a%2F..%2fb", "/%252e%252e/a", "/%25%32%65/",
		"/ADMIN", "/%41dmin", "/admin.", "/admin#x", "/admin%23x", "/a\\..\\b", "/a%5c..%5Cb", "/é", "/%C3%a9", "/.../a", "/.a/..b/", "/a//../b", "/..",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, written string) {
		u, err := url.ParseRequestURI(written)
		if err != nil || u.Scheme != "" {
			t.Skip()
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

// plainByte says whether an escape is of a character that needs none.
func plainByte(escape string) bool {
	c, err := url.PathUnescape(escape)
	return err == nil && strings.Contains("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", c)
}
