// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// verdicts are those of an ALLOW policy and of a DENY policy with one rule: whether it lets in, and whether it keeps out.
func verdicts(t *testing.T, rule mesh.RequestMatch, r Request) (letsIn, keepsOut bool) {
	t.Helper()
	caller := Caller{Peer: identity("shop", "client"), Destination: netip.MustParseAddrPort("10.0.0.1:80"), Request: &r}
	for _, action := range []mesh.PolicyAction{mesh.Allow, mesh.Deny} {
		in := []*mesh.Policy{asking(action, rule)}
		got := Judge([]*Index{NewIndex(in)}, caller)
		if one := Authorize(in, caller); one != got {
			t.Errorf("%+v of %+v: Authorize says %+v, Judge %+v", rule, r, one, got)
		}
		if action == mesh.Allow {
			letsIn = got.Allowed
		} else {
			keepsOut = !got.Allowed
		}
	}
	return letsIn, keepsOut
}

// TestPathsOfAttackers: a path that somebody behind us may read as another one is kept out by a policy about either, and let in by neither.
func TestPathsOfAttackers(t *testing.T) {
	prefix := func(p string) []mesh.StringMatch { return matching(mesh.MatchPrefix, p) }
	for _, tc := range []struct {
		path     string
		patterns []mesh.StringMatch
		letsIn   bool
		keepsOut bool
	}{
		{"/public/x", prefix("/public/"), true, true},
		{"/public/..%2Fadmin", prefix("/public/"), false, true},
		{"/public/..%2Fadmin", prefix("/admin"), false, true},
		{"/public/..%2fadmin", exact("/admin"), false, true},
		{"/public/..;/admin", prefix("/public/"), false, true},
		{"/public/..;/admin", exact("/admin"), false, true},
		{"/public/..;a=b/admin", exact("/admin"), false, true},
		{"/public/..%5Cadmin", exact("/admin"), false, true},
		{"/public/..%5Cadmin", prefix("/public/"), false, true},
		{"/public/%252e%252e/admin", exact("/admin"), false, true},
		{"/public/%252e%252e/admin", prefix("/public/"), false, true},
		{"/public/..%252Fadmin", prefix("/public/"), false, true},
		{"/public//..%2F..%2Fadmin", exact("/admin"), false, true},
		// Decoded once it is of /admin, decoded twice of /public again.
		{"/public/..%2Fadmin%2F%252e%252e%2Fpublic/x", prefix("/public/"), false, true},
		{"/public/..%2Fadmin%2F%252e%252e%2Fpublic/x", prefix("/admin/"), false, true},
		{"/public/%C0%AE%C0%AE%C0%AFadmin", exact("/admin"), false, true},
		{"/public/%C0%AE%C0%AE%C0%AFadmin", prefix("/public/"), false, true},
		{"/public/..%E0%80%AFadmin", prefix("/public/"), false, true},
		{"/admin%00.jpg", matching(mesh.MatchSuffix, ".jpg"), false, true},
		{"/admin%00.jpg", exact("/admin"), false, true},
		{"/admin%3F.jpg", exact("/admin"), false, true},
		{"/admin%3F.jpg", matching(mesh.MatchSuffix, ".jpg"), false, true},
		{"/admin%23x", exact("/admin"), false, true},
		{"/admin;.jpg", matching(mesh.MatchSuffix, ".jpg"), false, true},
		{"/admin;.jpg", exact("/admin"), false, true},
		{"/admin/", exact("/admin"), false, true},
		{"/admin%2F", exact("/admin"), false, true},
		{"/admin%2F", exact("/admin/"), false, true},
		{"/admin%20", exact("/admin"), false, true},
		{"//admin", exact("/admin"), false, true},
		{"/a//b", exact("/a//b"), true, true},
		{"/a%2F/b", exact("/a//b"), false, true},
		{"/a;b/c", exact("/a;b/c"), true, true},
		{"/a;b%2Fc", exact("/a;b/c"), false, true},
		{"/x%2F..%2Fa%2F", prefix("/a/"), false, true},
		{"/ADMIN", exact("/admin"), false, false},
		{"/adm", prefix("/admin"), false, false},
		// Read by somebody who does the same twice, or in another order.
		{"/public/x;y%2Fz/..%2F..%2Fadmin", prefix("/public/"), false, true},
		{"/public/x;y%2Fz/..%2F..%2Fadmin", prefix("/admin"), false, true},
		{"/admin%2Fsecret;x%2Fy", exact("/admin/secret"), false, true},
		{"/p/q%252Fr/..%2F..%2F%2561dmin", prefix("/admin"), false, true},
		{"/public/a%3F/..;/..;/admin", prefix("/public/"), false, true},
		{"/public/a%3F/..;/..;/admin", exact("/admin"), false, true},
		{"/public/a%2F..%5C..%252F%252e%252e;/..%5Cadmin", prefix("/public/"), false, true},
		{"/public/a%2F..%5C..%252F%252e%252e;/..%5Cadmin", exact("/admin"), false, true},
		{"/%61dmin%2e%2e", exact("/admin.."), false, true},
		{"*", prefix("/"), false, true},
		{"", prefix("/"), false, true},

		// White space, and what is not printed: some cut it off elements, or take it out wherever it is.
		{"/admin%20/x", prefix("/admin/"), false, true},
		{"/admin%09", exact("/admin"), false, true},
		{"/admin%0D%0A", exact("/admin"), false, true},
		{"/admin%0B%0C", exact("/admin"), false, true},
		{"/admin%1F", exact("/admin"), false, true},
		{"/admin%7F", exact("/admin"), false, true},
		{"/admin%C2%A0", exact("/admin"), false, true},
		{"/admin%E2%80%83/", exact("/admin"), false, true},
		{"/admin%2520", exact("/admin"), false, true},
		{"/admin%2509/", exact("/admin"), false, true},
		{"/%20admin", exact("/admin"), false, true},
		{"/%09/admin/x", prefix("/admin/"), false, true},
		{"/ad%09min/x", prefix("/admin/"), false, true},
		{"/ad%0Amin", exact("/admin"), false, true},
		{"/ad%00min", exact("/admin"), false, true},
		{"/public/.%09./admin", exact("/admin"), false, true},
		{"/public/.%09./admin", prefix("/public/"), false, true},
		{"/public/..%20/admin", exact("/admin"), false, true},
		{"/public/..%20/admin", prefix("/public/"), false, true},
		{"/%2509%2561dmin;x", exact("/admin"), false, true},
		{"/admin /x", prefix("/admin/"), false, true},
		{"/ad\tmin", exact("/admin"), false, true},
		{"/ad%20min", exact("/admin"), false, false},
		{"/files/a%20b", prefix("/files/"), true, true},
		{"/files/a%20", exact("/files/a%20"), true, true},
		{"/files/a%20", prefix("/files/"), true, true},
		{"/%61dmin", exact("/admin"), false, true},
		{"/./admin", exact("/admin"), false, true},
		{"/x/../admin", exact("/admin"), false, true},
		{"/x/../admin", prefix("/x/"), false, true},
		{"/public/%F0%80%80%AE%F0%80%80%AE/admin", exact("/admin"), false, true},
		{"/public/%F0%80%80%AE%F0%80%80%AE/admin", prefix("/public/"), false, true},

		// What a pattern has escaped means what it is read as, too.
		{"/my%20docs/x", prefix("/my%20docs/"), true, true},
		{"/my%20docs/x", prefix("/my docs/"), false, true},
		{"/caf%C3%A9/x", prefix("/caf%C3%A9/"), true, true},
		{"/caf%C3%A9/x", prefix("/café/"), false, true},
		{"/a%2Fb", exact("/a%2Fb"), true, true},
		{"/a%2Fb", exact("/a/b"), false, true},
		{"/a/b", exact("/a%2Fb"), false, true},
		{"/a!", exact("/a%21"), false, true},
		{"/a%2Fb%2F..%2F..%2Fadmin", prefix("/a%2F"), false, true},

		{"/a/x%2Fy", matching(mesh.MatchTemplate, "/a/{*}"), false, true},
		{"/a%2Fx", matching(mesh.MatchTemplate, "/a/{*}"), false, true},
		{"/a/..%2Fb/c", matching(mesh.MatchTemplate, "/a/{**}"), false, true},
		{"/a/b", matching(mesh.MatchTemplate, "/a/{**}"), true, true},
		{"/a/.well-known", prefix("/a/"), true, true},
	} {
		if in, out := verdicts(t, mesh.RequestMatch{Paths: tc.patterns}, Request{Path: tc.path}); in != tc.letsIn || out != tc.keepsOut {
			t.Errorf("%q for %v: lets in %v, keeps out %v, want %v, %v", tc.path, tc.patterns, in, out, tc.letsIn, tc.keepsOut)
		}
		// The exception from the rule is the other way round: what an ALLOW rule excepts is kept out, what a DENY rule excepts is let in.
		if in, out := verdicts(t, mesh.RequestMatch{NotPaths: tc.patterns}, Request{Path: tc.path}); in == tc.keepsOut || out == tc.letsIn {
			t.Errorf("%q for all but %v: lets in %v, keeps out %v, want %v, %v", tc.path, tc.patterns, in, out, !tc.keepsOut, !tc.letsIn)
		}
	}
}

// TestPathsOfAnyLength: one that has many readings, and is too long for them to be looked at, is nobody's.
func TestPathsOfAnyLength(t *testing.T) {
	long := "/public/" + strings.Repeat("a%2F", longestPath/4)
	if in, out := verdicts(t, mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, "/public/")}, Request{Path: long}); in || !out {
		t.Errorf("a long path with escapes: lets in %v, keeps out %v", in, out)
	}
	if in, out := verdicts(t, mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, "/")}, Request{Path: hostilePath}); in || !out {
		t.Errorf("a path with too many readings: lets in %v, keeps out %v", in, out)
	}
	plain := "/public/" + strings.Repeat("a/", 30<<10)
	if in, out := verdicts(t, mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, "/public/")}, Request{Path: plain}); !in || !out {
		t.Errorf("a long path: lets in %v, keeps out %v", in, out)
	}
}

func TestHostsOfAttackers(t *testing.T) {
	of := func(authority string) Request { return Request{Authority: authority} }
	for _, tc := range []struct {
		request  Request
		patterns []mesh.StringMatch
		letsIn   bool
		keepsOut bool
	}{
		{of("a.example"), exact("a.example"), true, true},
		{of("a.example.:80"), exact("a.example"), true, true},
		{of("a.example"), exact("a.example:80"), false, true},
		{of("a.example:81"), exact("a.example:80"), false, false},
		{of("a.example.:8080"), exact("a.example:8080"), true, true},
		{of("a.example:08080"), exact("a.example:8080"), true, true},
		{of("a.example.:08080"), matching(mesh.MatchSuffix, ".example:8080"), true, true},
		{of("a.example:08081"), exact("a.example:8080"), false, false},
		{of("[fd00::1]:80"), exact("[fd00::1]"), true, true},
		{of("[fd00:0::1]"), exact("[fd00::1]"), true, true},
		{of("[fd00:0::1]:080"), exact("fd00::1"), true, true},
		{of("[fd00:0::1]:080"), exact("[fd00::1]:80"), true, true},
		{of("[fd00:0::1]"), exact("[fd00::1]:80"), false, true},
		{of("[fd00::2]"), exact("[fd00::1]"), false, false},
		{of("A.Example."), matching(mesh.MatchPrefix, "a.ex"), true, true},
		{of("a.example.:080"), matching(mesh.MatchPrefix, "a.example:8"), true, true},
		{of("a.example"), matching(mesh.MatchPrefix, "a.example:8"), false, true},
		{of("a.example"), matching(mesh.MatchPrefix, "a.example:"), false, true},
		{of("a.example"), matching(mesh.MatchSuffix, ".example:80"), false, true},
		{of("a.example"), matching(mesh.MatchSuffix, ":80"), false, true},
		{of("b.example.org"), matching(mesh.MatchSuffix, ".example:80"), false, false},
		{of("[fd00::80]:9999"), matching(mesh.MatchSuffix, ":80"), false, false},
		{of("[fd00::80]"), matching(mesh.MatchSuffix, ":80"), false, true},
		{of("[fd00:0:0::1:1]:80"), matching(mesh.MatchSuffix, ":1]:80"), true, true},
		{of("[fd00::1:1]"), matching(mesh.MatchSuffix, ":1]"), true, true},
		{of("[FD00::1:1]"), matching(mesh.MatchPrefix, "fd00:"), true, true},
		{of(""), exact("a.example"), false, true},
		{of(""), matching(mesh.MatchPresence, ""), false, true},
		{of("a.example:80:80"), exact("a.example"), false, true},
		{of("a.example:x"), exact("a.example"), false, true},
		{of("a%2eexample"), exact("a.example"), false, true},
		{of("b.example,a.example"), exact("a.example"), false, true},
		{of("a..example"), exact("a.example"), false, true},
		{of("[::1]:80"), exact("::1"), true, true},
		{of("[::1]x]y"), exact("::1"), false, true},
	} {
		if in, out := verdicts(t, mesh.RequestMatch{Hosts: tc.patterns}, tc.request); in != tc.letsIn || out != tc.keepsOut {
			t.Errorf("%+v for %v: lets in %v, keeps out %v, want %v, %v", tc.request, tc.patterns, in, out, tc.letsIn, tc.keepsOut)
		}
		if in, out := verdicts(t, mesh.RequestMatch{NotHosts: tc.patterns}, tc.request); in == tc.keepsOut || out == tc.letsIn {
			t.Errorf("%+v for all but %v: lets in %v, keeps out %v, want %v, %v", tc.request, tc.patterns, in, out, !tc.keepsOut, !tc.letsIn)
		}
	}
}

func TestHeadersOfAttackers(t *testing.T) {
	for _, tc := range []struct {
		headers  map[string][]string
		patterns []mesh.StringMatch
		letsIn   bool
		keepsOut bool
	}{
		{map[string][]string{"X-Team": {"red"}}, exact("red"), true, true},
		{map[string][]string{"X-Team": {"blue, red"}}, exact("red"), false, true},
		{map[string][]string{"X-Team": {"blue,red"}}, exact("red"), false, true},
		{map[string][]string{"X-Team": {"", "red"}}, exact("red"), false, true},
		{map[string][]string{"X-Team": {"red", "evil"}}, matching(mesh.MatchPrefix, "red"), false, true},
		{map[string][]string{"X-Team": {"evil", "red"}}, matching(mesh.MatchSuffix, "red"), false, true},
		{map[string][]string{"X-Team": {"redder", "red"}}, matching(mesh.MatchPrefix, "red"), true, true},
		{map[string][]string{"X-Team": {"red", "blue"}}, exact("red, blue"), false, true},
		{map[string][]string{"X_team": {"red"}}, exact("red"), false, true},
		{map[string][]string{"X-Team": {"red"}, "X_team": {"blue"}}, exact("red"), false, true},
		{map[string][]string{"X-Team": {"blue"}, "X_team": {"red"}}, exact("red"), false, true},
		{map[string][]string{"X-Team": {"Mozilla/5.0 (KHTML, like Gecko)"}}, matching(mesh.MatchPrefix, "Mozilla/"), true, true},
		{map[string][]string{"X-Team": {""}}, matching(mesh.MatchPresence, ""), false, true},
	} {
		if in, out := verdicts(t, header(tc.patterns, nil), Request{Header: tc.headers}); in != tc.letsIn || out != tc.keepsOut {
			t.Errorf("%q for %v: lets in %v, keeps out %v, want %v, %v", tc.headers, tc.patterns, in, out, tc.letsIn, tc.keepsOut)
		}
	}
}

// TestJudgingIsBounded: neither many rules nor long requests, nor both, take long. What cannot be decided in time is refused.
func TestJudgingIsBounded(t *testing.T) {
	const rules = 4000
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	longHost := strings.Repeat("a", 4<<10)
	var long []mesh.StringMatch
	for i := range 500 {
		long = append(long, mesh.StringMatch{Kind: mesh.MatchPrefix, Value: strings.Repeat("a", 2<<10) + fmt.Sprint(i)})
	}
	templates := strings.Repeat("/{*}", 400) + "/x"
	for name, of := range map[string]func(i int) mesh.RequestMatch{
		"prefixes": func(i int) mesh.RequestMatch {
			return mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, fmt.Sprintf("/%d/", i))}
		},
		"templates": func(i int) mesh.RequestMatch {
			return mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, templates)}
		},
		"escapes": func(i int) mesh.RequestMatch {
			return mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, "/"+strings.Repeat("%41", 600))}
		},
		"methods": func(i int) mesh.RequestMatch { return mesh.RequestMatch{Methods: long} },
		"hosts":   func(i int) mesh.RequestMatch { return mesh.RequestMatch{Hosts: long} },
		"headers": func(i int) mesh.RequestMatch { return header(exact(fmt.Sprint(i)), nil) },
	} {
		var in []*mesh.Policy
		for i := range rules {
			in = append(in, asking(mesh.Deny, of(i)))
		}
		x := []*Index{NewIndex(in)}
		for _, path := range []string{"/" + strings.Repeat("a/", 15<<10), "/" + strings.Repeat("a/%2e%2e%2f;x/", 2<<10), hostilePath} {
			caller := Caller{Request: &Request{Authority: longHost, Method: strings.Repeat("a", 4<<10), Path: path, Header: map[string][]string{"X-Team": {strings.Repeat("a,", 30<<10)}}}}
			began := processorTime(t)
			v := Judge(x, caller)
			if took := processorTime(t) - began; took > 50*time.Millisecond {
				t.Errorf("%s, path of %d bytes: %v", name, len(path), took)
			}
			if name == "headers" && v.Allowed {
				t.Errorf("%s: what is not looked at is let in", name)
			}
		}
	}
}

// processorTime is what the thread has had of the processor: other work beside it does not count.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	const thread = 1 // RUSAGE_THREAD
	var used syscall.Rusage
	if err := syscall.Getrusage(thread, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano())
}

// hostilePath has more readings than are looked at, and is as long as a path with several may be.
var hostilePath = "/" + strings.Repeat("a%2F.%2E%2f/%255Cb;c%5C..//%252e%252E/d%3Fe", 100)[:longestPath-1]

func BenchmarkRequest(b *testing.B) {
	for _, policies := range []int{10, 1000, 10_000} {
		for name, rule := range map[string]func(i int) mesh.PolicyMatch{
			"paths": func(i int) mesh.PolicyMatch {
				return mesh.PolicyMatch{Request: &mesh.RequestMatch{Methods: exact("GET"), Paths: matching(mesh.MatchPrefix, fmt.Sprintf("/service-%d/", i))}}
			},
			"paths of one caller each": func(i int) mesh.PolicyMatch {
				return mesh.PolicyMatch{Principals: exact(fmt.Sprintf("cluster.local/ns/shop/sa/client-%d", i)), Request: &mesh.RequestMatch{Methods: exact("GET"), Paths: matching(mesh.MatchPrefix, "/service")}}
			},
		} {
			var in []*mesh.Policy
			for i := range policies {
				in = append(in, policy(fmt.Sprint("p", i), mesh.Allow, rule(i)))
			}
			x := []*Index{NewIndex(in)}
			for kind, path := range map[string]string{"plain": "/another/carts/7", "escaped": "/another/carts%2F7", "hostile": hostilePath} {
				caller := Caller{Peer: identity("shop", "client-9"), Request: &Request{Method: "GET", Path: path}}
				b.Run(fmt.Sprintf("%d/%s/%s", policies, name, kind), func(b *testing.B) {
					for b.Loop() {
						Judge(x, caller)
					}
				})
			}
		}
	}
}

// FuzzRequest: no path makes it hang or panic; what is let in would be kept out by the same rule; and a path has few readings, all of which are paths.
func FuzzRequest(f *testing.F) {
	f.Add("/a/{*}/b/{**}", "/a//b%2f%2e%2E;x/..", "a.example", "red,blue")
	f.Add("/public/", "/public/..%252fadmin", "[::1]:80", "")
	f.Fuzz(func(t *testing.T, pattern, path, host, value string) {
		kinds := []mesh.StringMatchKind{mesh.MatchExact, mesh.MatchPrefix, mesh.MatchSuffix, mesh.MatchPresence}
		if mesh.ValidTemplate(pattern) {
			kinds = append(kinds, mesh.MatchTemplate)
		}
		r := Request{Path: path, Authority: host, Method: value, Header: map[string][]string{"X-Team": {value, path}, "X_team": {host}}}
		for _, kind := range kinds {
			in := matching(kind, pattern)
			for _, rule := range []mesh.RequestMatch{{Paths: in}, {Hosts: in}, {Methods: in}, header(in, nil), {NotPaths: in}, {NotHosts: in}, {NotMethods: in}, header(nil, in)} {
				if letsIn, keepsOut := verdicts(t, rule, r); letsIn && !keepsOut {
					t.Errorf("%+v lets %+v in, and does not keep it out", rule, r)
				}
			}
		}
		readings := readPath(path)
		if n := len(readings.more); n >= mostReadings || readings.odd && n > 0 {
			t.Errorf("%q has %d readings", path, n)
		}
		for _, p := range readings.more {
			if len(p.path) > len(path)+1 || p.path == path {
				t.Errorf("%q is read as %q", path, p.path)
			}
		}
		if slices.Contains(readings.bared, "") {
			t.Errorf("%q is read as nothing", path)
		}
	})
}
