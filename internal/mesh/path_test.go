// SPDX-License-Identifier: Apache-2.0

package mesh

import "testing"

func TestPlainPath(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "": "", "/a/b": "/a/b", "/caf%c3%a9": "/caf%C3%A9", "/%7Euser": "/~user", "/a%2Db": "/a-b", "/a%2fb": "/a%2Fb", "/my docs": "/my%20docs",
		"/a/%2e%2e/b": "/b", "/a/./b": "/a/b", "/a/..": "/", "/../a": "/a", "/a//b": "/a//b", "/.well-known/x": "/.well-known/x", "/a/.": "/a/", "/a%": "/a%25",
	} {
		got := PlainPath(path)
		if got != want {
			t.Errorf("PlainPath(%q) = %q, want %q", path, got, want)
		}
		if again := PlainPath(got); again != got {
			t.Errorf("PlainPath(%q) = %q, and of that %q", path, got, again)
		}
	}
}
