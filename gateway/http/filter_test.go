// SPDX-License-Identifier: Apache-2.0

package http

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestNewPath(t *testing.T) {
	for _, tc := range []struct{ path, prefix, with, want string }{
		// The table of the Gateway API's HTTPPathModifier.
		{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", "/xyz", "/xyz"},
		{"/foo/", "/foo", "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", "", "/bar"},
		{"/foo/", "/foo", "", "/"},
		{"/foo", "/foo", "", "/"},
		{"/foo/", "/foo", "/", "/"},
		{"/foo", "/foo", "/", "/"},
		{"/foo/bar", "/", "/xyz", "/xyz/foo/bar"},
		{"/", "/", "/xyz", "/xyz/"},
	} {
		if got := newPath(tc.path, mesh.PathChange{Kind: mesh.PathPrefixReplaced, Value: tc.with}, tc.prefix); got != tc.want {
			t.Errorf("%s with %s replaced by %q is %s, want %s", tc.path, tc.prefix, tc.with, got, tc.want)
		}
	}
	if got := newPath("/a/b", mesh.PathChange{Kind: mesh.PathReplaced, Value: "/c"}, "/a"); got != "/c" {
		t.Errorf("a path that is replaced is %s", got)
	}
}

func TestLocation(t *testing.T) {
	for _, tc := range []struct {
		url  string
		port uint16 // of the listener
		d    mesh.HTTPRedirect
		want string
	}{
		{"http://a.example.com/x?y=z", 80, mesh.HTTPRedirect{Hostname: "b.example.com"}, "http://b.example.com/x?y=z"},
		{"http://a.example.com:8080/x", 8080, mesh.HTTPRedirect{Hostname: "b.example.com"}, "http://b.example.com:8080/x"},
		{"http://a.example.com:8080/x", 8080, mesh.HTTPRedirect{Scheme: "https"}, "https://a.example.com/x"},
		{"http://a.example.com:8080/x", 8080, mesh.HTTPRedirect{Scheme: "http"}, "http://a.example.com/x"},
		{"http://a.example.com/x", 80, mesh.HTTPRedirect{Port: 8443}, "http://a.example.com:8443/x"},
		{"http://a.example.com/x", 80, mesh.HTTPRedirect{Scheme: "https", Port: 443}, "https://a.example.com/x"},
		{"http://a.example.com/x", 80, mesh.HTTPRedirect{Scheme: "https", Port: 80}, "https://a.example.com:80/x"},
		{"https://a.example.com/x", 443, mesh.HTTPRedirect{Hostname: "b.example.com"}, "https://b.example.com/x"},
		{"https://a.example.com:8443/x", 8443, mesh.HTTPRedirect{Scheme: "http"}, "http://a.example.com/x"},
		{"http://[::1]/x%2Fy", 80, mesh.HTTPRedirect{Scheme: "https"}, "https://[::1]/x%2Fy"},
		{"http://a.example.com/old/x", 80, mesh.HTTPRedirect{Path: mesh.PathChange{Kind: mesh.PathPrefixReplaced, Value: "/new"}}, "http://a.example.com/new/x"},
	} {
		r := httptest.NewRequest(http.MethodGet, tc.url, nil)
		if r.URL.Scheme == "https" {
			r.TLS = &tls.ConnectionState{}
		}
		path, _ := pathOf(r.URL)
		if got := location(r, found{&Target{Prefix: "/old"}, &mesh.Listener{Port: tc.port}, path}, &tc.d); got != tc.want {
			t.Errorf("%s at port %d by %+v leads to %s, want %s", tc.url, tc.port, tc.d, got, tc.want)
		}
	}
}
