// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestOrigins(t *testing.T) {
	for _, tc := range []struct {
		allowed, origin string
		want            bool
	}{
		{"https://a.example.com", "https://a.example.com", true},
		{"https://a.example.com", "https://A.example.com", true},
		{"https://a.example.com", "https://a.example.com:443", true},
		{"https://a.example.com:443", "https://a.example.com", true},
		{"https://a.example.com", "https://a.example.com:8443", false},
		{"http://a.example.com:80", "http://a.example.com", true},
		{"https://a.example.com", "http://a.example.com", false},
		{"https://a.example.com", "https://b.example.com", false},
		{"https://a.example.com", "https://a.example.com.evil.org", false},
		{"https://*.example.com", "https://a.b.example.com", true},
		{"https://*.example.com", "https://example.com", false},
		{"https://*.example.com", "https://.example.com", false},
		{"https://*.example.com", "https://evilexample.com", false},
		{"https://*.example.com", "https://evil.org/a.example.com", false},
		{"https://*.example.com:8443", "https://a.example.com:8443", true},
		{"https://*.example.com:8443", "https://a.example.com", false},
		{"https://*", "https://anything.org", true},
		{"https://*", "http://anything.org", false},
		{"*", "null", true},
		{"https://a.example.com", "null", false},
		{"*", "", false},
	} {
		if got := originAllowed(&mesh.CORS{Origins: []string{tc.allowed}}, tc.origin); got != tc.want {
			t.Errorf("%q is allowed by %q: %v, want %v", tc.origin, tc.allowed, got, tc.want)
		}
	}
}

// Preflight requests are answered here, by the rule of the request that they ask for; answers say who may read them, whatever the backend says of it.
func TestCORS(t *testing.T) {
	shared := func(path string, c mesh.CORS, change func(*mesh.HTTPRule)) mesh.HTTPRule {
		return with(rule(path, prefix(path)), func(r *mesh.HTTPRule) {
			r.Backends, r.Filters.CORS = []mesh.HTTPBackend{to("a")}, &c
			if change != nil {
				change(r)
			}
		})
	}
	s := newScene(t, Limits{}, listener("web", "", route("r", nil,
		shared("/listed", mesh.CORS{Origins: []string{"https://a.org", "https://*.b.org"}, Credentials: true, Methods: []string{"GET", "PUT"}, Headers: []string{"X-A", "X-B"}, Expose: []string{"X-C", "*"}, MaxAge: 60}, nil),
		shared("/all", mesh.CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}, Expose: []string{"*"}, MaxAge: 5}, nil),
		shared("/credentials", mesh.CORS{Origins: []string{"*"}, Credentials: true, Methods: []string{"*"}, Headers: []string{"*"}, MaxAge: 5}, nil),
		shared("/method", mesh.CORS{Origins: []string{"*"}, Methods: []string{"PUT"}}, func(r *mesh.HTTPRule) { r.Matches[0].Method = "PUT" }),
		shared("/nobody", mesh.CORS{Origins: []string{"https://a.org"}}, func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("nobody")} }),
		shared("/moved", mesh.CORS{Origins: []string{"https://a.org"}}, func(r *mesh.HTTPRule) {
			r.Filters.Redirect = &mesh.HTTPRedirect{Hostname: "new.example.com", Status: 301}
		}),
		with(rule("backend", prefix("/backend")), func(r *mesh.HTTPRule) {
			b := to("a")
			b.Filters.CORS = &mesh.CORS{Origins: []string{"https://a.org"}, MaxAge: 7}
			r.Backends = []mesh.HTTPBackend{b}
		}),
		with(rule("plain", prefix("/plain")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerAllowOrigin, "https://evil.org")
		w.Header().Set(headerAllowCredentials, "true")
		w.Header().Set("X-Method", r.Method)
	})
	client := s.client()
	for _, tc := range []struct {
		method, path, origin, asks, askedHeaders string
		status                                   int
		want                                     []string // headers; "" for one that must not be there
	}{
		{"OPTIONS", "/listed", "https://a.org", "PUT", "X-A", 204, []string{
			headerAllowOrigin, "https://a.org", headerAllowCredentials, "true", headerAllowMethods, "GET, PUT", headerAllowHeaders, "X-A, X-B", headerExposeHeaders, "X-C", headerMaxAge, "60",
			"Vary", "Origin, " + headerRequestMethod + ", " + headerRequestHeaders}},
		{"OPTIONS", "/listed", "https://x.y.b.org", "PUT", "", 204, []string{headerAllowOrigin, "https://x.y.b.org"}},
		{"OPTIONS", "/listed", "https://evil.org", "PUT", "", 403, []string{headerAllowOrigin, "", headerAllowMethods, "", headerAllowCredentials, "", headerReason, "origin_not_allowed"}},
		{"OPTIONS", "/all", "https://a.org", "DELETE", "X-Y, X-Z", 204, []string{headerAllowOrigin, "*", headerAllowMethods, "DELETE", headerAllowHeaders, "X-Y, X-Z", headerExposeHeaders, "*", headerAllowCredentials, ""}},
		{"OPTIONS", "/credentials", "https://a.org", "DELETE", "", 204, []string{headerAllowOrigin, "https://a.org", headerAllowMethods, "DELETE", headerAllowHeaders, "", headerAllowCredentials, "true"}},
		{"OPTIONS", "/method", "https://a.org", "PUT", "", 204, []string{headerAllowMethods, "PUT"}},
		{"OPTIONS", "/method", "https://a.org", "POST", "", 404, nil},
		{"OPTIONS", "/backend", "https://a.org", "GET", "", 204, []string{headerAllowOrigin, "https://a.org", headerMaxAge, "7"}},
		{"OPTIONS", "/listed", "https://a.org", "", "", 200, []string{"X-Method", "OPTIONS", headerAllowOrigin, "https://a.org"}},
		{"GET", "/listed", "https://a.org", "", "", 200, []string{headerAllowOrigin, "https://a.org", headerAllowCredentials, "true", headerExposeHeaders, "X-C", headerAllowMethods, ""}},
		{"GET", "/listed", "https://evil.org", "", "", 200, []string{headerAllowOrigin, "", headerAllowCredentials, "", "Vary", "Origin"}},
		{"GET", "/listed", "", "", "", 200, []string{headerAllowOrigin, ""}},
		{"GET", "/all", "https://a.org", "", "", 200, []string{headerAllowOrigin, "*", headerAllowCredentials, ""}},
		{"GET", "/nobody", "https://a.org", "", "", 503, []string{headerAllowOrigin, "https://a.org"}},
		{"GET", "/moved", "https://a.org", "", "", 301, []string{headerAllowOrigin, "https://a.org"}},
		{"GET", "/backend", "https://a.org", "", "", 200, []string{headerAllowOrigin, "https://a.org"}},
		{"GET", "/plain", "https://a.org", "", "", 200, []string{headerAllowOrigin, "https://evil.org"}},
	} {
		var headers []string
		for name, value := range map[string]string{"Origin": tc.origin, headerRequestMethod: tc.asks, headerRequestHeaders: tc.askedHeaders} {
			if value != "" {
				headers = append(headers, name, value)
			}
		}
		what := tc.method + " " + tc.path + " of " + tc.origin
		response, _ := s.ask(client, tc.method, "http://x"+tc.path, "", headers...)
		if response.StatusCode != tc.status {
			t.Errorf("%s answers %d, want %d", what, response.StatusCode, tc.status)
		}
		for i := 0; i < len(tc.want); i += 2 {
			if got := strings.Join(response.Header.Values(tc.want[i]), ", "); got != tc.want[i+1] {
				t.Errorf("%s has %s %q, want %q", what, tc.want[i], got, tc.want[i+1])
			}
		}
	}
}
