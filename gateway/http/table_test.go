// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func prefix(p string) mesh.HTTPMatch { return mesh.HTTPMatch{Path: p} }
func exact(p string) mesh.HTTPMatch  { return mesh.HTTPMatch{Path: p, Exact: true} }

// rule is a rule that is known by its name.
func rule(name string, matches ...mesh.HTTPMatch) mesh.HTTPRule {
	return mesh.HTTPRule{Name: name, Matches: matches}
}

func route(name string, hostnames []string, rules ...mesh.HTTPRule) *mesh.HTTPRoute {
	return &mesh.HTTPRoute{Namespace: "n", Name: name, Hostnames: hostnames, Rules: rules}
}

func listener(name, hostname string, routes ...*mesh.HTTPRoute) mesh.Listener {
	return mesh.Listener{Name: name, Port: 80, Bind: 20080, Protocol: mesh.ListenerHTTP, Hostname: hostname, Routes: routes}
}

// TestPrecedence: which of several rules takes a request, whatever their order.
func TestPrecedence(t *testing.T) {
	header := func(m mesh.HTTPMatch, pairs ...string) mesh.HTTPMatch {
		for i := 0; i < len(pairs); i += 2 {
			m.Headers = append(m.Headers, mesh.NameValue{Name: pairs[i], Value: pairs[i+1]})
		}
		return m
	}
	query := func(m mesh.HTTPMatch, pairs ...string) mesh.HTTPMatch {
		for i := 0; i < len(pairs); i += 2 {
			m.Query = append(m.Query, mesh.NameValue{Name: pairs[i], Value: pairs[i+1]})
		}
		return m
	}
	method := func(m mesh.HTTPMatch, name string) mesh.HTTPMatch { m.Method = name; return m }
	table := NewTable([]mesh.Listener{
		listener("wide", "",
			route("a", []string{"shop.example.com"},
				rule("root", prefix("/")), rule("a", prefix("/a")), rule("a/b", prefix("/a/b")), rule("exact", exact("/a/b")),
				rule("headers", header(prefix("/h"), "X-A", "1"), header(prefix("/h"), "X-A", "2", "X-B", "2")),
				rule("header", header(prefix("/h"), "X-A", "2")),
				rule("get", method(prefix("/h"), "GET")),
				rule("query", query(prefix("/q"), "q", "1")), rule("queries", query(prefix("/q"), "q", "1", "p", "a b")),
				rule("first", exact("/twice")), rule("second", exact("/twice")),
			),
			route("b", []string{"shop.example.com"}, rule("younger", exact("/twice")), rule("c", prefix("/a/b/c"))),
			route("c", []string{"*.example.com"}, rule("wild", prefix("/")), rule("wild deep", prefix("/deep/down/here"))),
			route("d", []string{"*.shop.example.com"}, rule("wilder", prefix("/only"))),
		),
		listener("narrow", "narrow.example.com", route("e", nil, rule("narrow", prefix("/here")))),
		listener("star", "*.star.org", route("f", []string{"a.star.org", "*.org"}, rule("star", prefix("/")))),
	})
	for _, tc := range []struct{ method, url, headers, want string }{
		{"POST", "http://shop.example.com/", "", "root"},
		{"POST", "http://SHOP.example.com.:8080/x", "", "root"},
		{"POST", "http://shop.example.com/a", "", "a"},
		{"POST", "http://shop.example.com/a/", "", "a"},
		{"POST", "http://shop.example.com/ab", "", "root"},
		{"POST", "http://shop.example.com/a/b", "", "exact"},
		{"POST", "http://shop.example.com/a/b/", "", "a/b"},
		{"POST", "http://shop.example.com/a/bc", "", "a"},
		{"POST", "http://shop.example.com/a/b/c/d/e/f/g", "", "c"},
		{"POST", "http://shop.example.com/%61/b", "", "exact"},
		{"POST", "http://shop.example.com/x/../a/./b", "", "exact"},
		{"POST", "http://shop.example.com/x/%2e%2E/a/b", "", "exact"},
		{"POST", "http://shop.example.com/a%2Fb", "", "root"}, // an escaped slash is none
		{"POST", "http://shop.example.com/../../a", "", "a"},
		{"POST", "http://shop.example.com/h", "", "root"},
		{"GET", "http://shop.example.com/h", "", "get"},
		{"GET", "http://shop.example.com/h", "X-A: 1", "get"},
		{"POST", "http://shop.example.com/h", "X-A: 1", "headers"},
		{"POST", "http://shop.example.com/h", "X-A: 2", "header"},
		{"POST", "http://shop.example.com/h", "X-A: 2\nX-B: 2", "headers"},
		{"POST", "http://shop.example.com/h", "X-A: 2\nX-A: 2", "root"}, // "2,2"
		{"POST", "http://shop.example.com/q?q=1", "", "query"},
		{"POST", "http://shop.example.com/q?p=a+b&q=1", "", "queries"},
		{"POST", "http://shop.example.com/q?p=a%20b&x&q=1", "", "queries"},
		{"POST", "http://shop.example.com/q?q=2&q=1", "", "root"},
		{"POST", "http://shop.example.com/twice", "", "first"},
		{"POST", "http://other.example.com/deep/down/here/too", "", "wild deep"},
		{"POST", "http://x.shop.example.com/only", "", "wilder"},
		{"POST", "http://x.shop.example.com/else", "", "wild"},
		{"POST", "http://example.com/", "", ""},
		{"POST", "http://narrow.example.com/here", "", "narrow"},
		{"POST", "http://narrow.example.com/elsewhere", "", ""}, // the wider listener is hidden
		{"POST", "http://a.star.org/", "", "star"},
		{"POST", "http://b.star.org/", "", "star"},
		{"POST", "http://star.org/", "", ""},
		{"POST", "http://[::1]:80/", "", ""},
	} {
		r := httptest.NewRequest(tc.method, tc.url, nil)
		for line := range strings.Lines(tc.headers) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			r.Header.Add(name, value)
		}
		got := ""
		if target := table.Find(r); target != nil {
			got = target.Rule.Name
		}
		if got != tc.want {
			t.Errorf("%s %s %q is taken by %q, want %q", tc.method, tc.url, tc.headers, got, tc.want)
		}
	}
}

// manyRules is a table of 10,000 rules: 500 hosts with 20 rules each.
func manyRules() *Table {
	var routes []*mesh.HTTPRoute
	for h := range 500 {
		r := route(fmt.Sprintf("r%d", h), []string{fmt.Sprintf("h%d.example.com", h)})
		for i := range 20 {
			m := prefix(fmt.Sprintf("/service/%d", i))
			if i%3 == 0 {
				m.Headers = []mesh.NameValue{{Name: "X-Version", Value: "2"}}
			}
			r.Rules = append(r.Rules, rule(fmt.Sprintf("%d/%d", h, i), m))
		}
		routes = append(routes, r)
	}
	return NewTable([]mesh.Listener{listener("web", "", routes...)})
}

// A match costs no memory, or it would cost it for each request.
func TestMatchDoesNotAllocate(t *testing.T) {
	table := manyRules()
	r := httptest.NewRequest(http.MethodGet, "http://h123.example.com/service/7/items/42?x=1", nil)
	if allocations := testing.AllocsPerRun(100, func() {
		if target := table.Find(r); target == nil || target.Rule.Name != "123/7" {
			t.Fatal("not found")
		}
	}); allocations != 0 {
		t.Errorf("a match allocates %v times", allocations)
	}
}

// A path of nothing but slashes is looked up as often as the deepest rule is deep, and not once per slash.
func TestManySlashes(t *testing.T) {
	table := NewTable([]mesh.Listener{listener("web", "", route("r", nil, rule("deep", prefix("/a/b/c/d")), rule("root", prefix("/"))))})
	set := table.listener("x").hosts.any
	if end := set.start(strings.Repeat("/", 1<<16)); end > set.longest+1 {
		t.Errorf("the search begins at %d", end)
	}
	r := httptest.NewRequest(http.MethodGet, "http://x"+strings.Repeat("/", 1<<12), nil)
	if target := table.Find(r); target == nil || target.Rule.Name != "root" {
		t.Errorf("taken by %+v", target)
	}
}

func BenchmarkMatch(b *testing.B) {
	table := manyRules()
	r := httptest.NewRequest(http.MethodGet, "http://h123.example.com/service/7/items/42?x=1", nil)
	b.ReportAllocs()
	for b.Loop() {
		if target := table.Find(r); target == nil {
			b.Fatal("not found")
		}
	}
}

// BenchmarkNewTable is what a change of one route costs a gateway that has 5,000 of them, each of a host of its own.
func BenchmarkNewTable(b *testing.B) {
	l := mesh.Listener{Name: "web", Port: 80, Protocol: mesh.ListenerHTTP}
	for i := range 5000 {
		name := fmt.Sprintf("route-%04d", i)
		l.Routes = append(l.Routes, &mesh.HTTPRoute{
			Namespace: "shop", Name: name, Hostnames: []string{name + ".example.com"}, Rules: []mesh.HTTPRule{{Matches: []mesh.HTTPMatch{{Path: "/" + name}}}},
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		NewTable([]mesh.Listener{l})
	}
}

// TestHostThatIsNone: looking for a host costs a look a label, so none is looked for that is longer than any name.
func TestHostThatIsNone(t *testing.T) {
	table := NewTable([]mesh.Listener{listener("web", "", route("r", []string{"*.example.com"}, rule("x", prefix("/"))))})
	for host, want := range map[string]Reason{
		strings.Repeat("a.", (maxHost-len("example.com"))/2) + "example.com": "",
		strings.Repeat("a.", maxHost/2) + "example.com":                      ReasonBadHost,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil)
		var got Reason
		if _, refusal := find(table, r); refusal != nil {
			got = refusal.Reason
		}
		if got != want {
			t.Errorf("a host of %d bytes: %q, want %q", len(host), got, want)
		}
	}
}
