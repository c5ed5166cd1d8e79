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

func TestQueryFits(t *testing.T) {
	many := strings.Repeat("x=1&", 40)
	for _, tc := range []struct {
		raw, name, value string
		want             bool
	}{
		{"a=1", "a", "1", true},
		{"a=1", "a", "2", false},
		{"a=1", "b", "1", false},
		{"", "a", "", false},
		{"a", "a", "", true},
		{"a=1&a=2", "a", "1", true},
		{"a=1&a=2", "a", "2", false},
		{"%61=b+c%21", "a", "b c!", true},
		{"%zz=1", "%zz", "1", true},
		{"a=%zz", "a", "%zz", true},
		{"&&a=1&", "a", "1", true},
		{"=1", "", "1", true},
		{"a==1", "a", "=1", true},
		{"a=1&" + many, "a", "1", true},
		{many + "a=1", "a", "1", true},
		{many + "a=1&a=2", "a", "2", false},
		{many + "x=2", "x", "2", false},
		{many + "%61=1", "a", "1", true},
		{many, "a", "", false},
	} {
		q := query{raw: tc.raw}
		for range 2 { // the second time it is read already
			if got := q.fits([]mesh.NameValue{{Name: tc.name, Value: tc.value}}); got != tc.want {
				t.Errorf("%.40q, %s=%s: %v, want %v", tc.raw, tc.name, tc.value, got, tc.want)
			}
		}
	}
}

func TestJoinedAre(t *testing.T) {
	for _, tc := range []struct {
		values []string
		wanted string
		want   bool
	}{
		{[]string{"a", "b"}, "a,b", true},
		{[]string{"a,b", "c"}, "a,b,c", true},
		{[]string{"", ""}, ",", true},
		{[]string{"a", "b"}, "a,b,", false},
		{[]string{"a", "b"}, "ab", false},
		{[]string{"a", "b"}, "a", false},
		{[]string{"a", "b"}, "a,bc", false},
		{[]string{"a", "bc"}, "a,b", false},
	} {
		if got := joinedAre(tc.values, tc.wanted); got != tc.want {
			t.Errorf("%q, %q: %v", tc.values, tc.wanted, got)
		}
	}
}

func TestMatchingAQueryDoesNotAllocate(t *testing.T) {
	s, _ := NewTable([]mesh.Listener{listener("web", "", asking(4))}).listeners.best("a.example.com")
	r := httptest.NewRequest(http.MethodGet, "http://a.example.com/?a=1&b=2&v15=1", nil)
	if s.Match(r, "a.example.com", "/") == nil {
		t.Fatal("nothing takes it")
	}
	if n := testing.AllocsPerRun(100, func() { s.Match(r, "a.example.com", "/") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// asking is a route with 4 × n matches, each with a query parameter of its own.
func asking(n int) *mesh.HTTPRoute {
	var rules []mesh.HTTPRule
	for i := range n {
		var matches []mesh.HTTPMatch
		for j := range 4 {
			m := prefix("/")
			m.Query = []mesh.NameValue{{Name: fmt.Sprintf("v%d", i*4+j), Value: "1"}}
			matches = append(matches, m)
		}
		rules = append(rules, rule(fmt.Sprint(i), matches...))
	}
	return route("r", []string{"a.example.com"}, rules...)
}

// BenchmarkLongQuery is the worst that a request of 64 KiB can ask of a route with all the matches that the API allows.
func BenchmarkLongQuery(b *testing.B) {
	s, _ := NewTable([]mesh.Listener{listener("web", "", asking(32))}).listeners.best("a.example.com")
	r := httptest.NewRequest(http.MethodGet, "http://a.example.com/?"+strings.Repeat("%41&", 15<<10), nil)
	for b.Loop() {
		s.Match(r, "a.example.com", "/")
	}
}
