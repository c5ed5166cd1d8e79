// SPDX-License-Identifier: Apache-2.0

package http

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Table says which rule takes a request. It is never changed.
type Table struct {
	listeners hosts[*site]
}

// site is one listener of the port.
type site struct {
	listener *mesh.Listener
	// hosts are by the routes' own hostnames: a request that comes here fits the listener's anyway.
	hosts hosts[*ruleset]
}

// ruleset are the matches of all routes that have one hostname.
type ruleset struct {
	exact, prefix map[string][]*candidate // by path; the first that fits counts; nil: none
	// Of all prefixes: longer ones, and ones with more slashes, need not be looked for.
	longest, deepest int
}

// candidate is one match of one rule. It is the same one for all hostnames of its route, at all listeners.
type candidate struct {
	match  *mesh.HTTPMatch
	target Target
}

// Target is what takes a request.
type Target struct {
	Route *mesh.HTTPRoute
	Rule  *mesh.HTTPRule
	// Prefix is the part of the path that the rule matched; of an exact match it is all of it.
	Prefix string

	route string // what the route is called in metrics and logs
}

// NewTable makes the table for listeners that share a port. What each route takes of it is what mesh.HTTPRoute.AtListener says of it at each of them.
func NewTable(listeners []mesh.Listener) *Table {
	t := &Table{listeners: newHosts[*site]()}
	candidates := map[*mesh.HTTPRoute][]candidate{}
	for i := range listeners {
		l := &listeners[i]
		s := &site{listener: l, hosts: newHosts[*ruleset]()}
		s.hosts.exact = make(map[string]*ruleset, len(l.Routes)) // most have a host of their own
		all := make([]*ruleset, 0, len(l.Routes))
		for _, route := range l.Routes {
			names := route.Hostnames
			if len(names) == 0 {
				names = []string{""}
			}
			for _, name := range names {
				if !mesh.HostnamesMeet(l.Hostname, name) {
					continue
				}
				set, ok := s.hosts.get(name)
				if !ok {
					set = &ruleset{}
					s.hosts.put(name, set)
					all = append(all, set)
				}
				of, ok := candidates[route]
				if !ok {
					of = candidatesOf(route)
					candidates[route] = of
				}
				set.add(of)
			}
		}
		for _, set := range all {
			set.sort()
		}
		t.listeners.put(l.Hostname, s)
	}
	return t
}

// candidatesOf are all matches of a route, in the order in which it has them.
func candidatesOf(route *mesh.HTTPRoute) []candidate {
	name := route.Key().String()
	out := make([]candidate, 0, route.Matches())
	for i := range route.Rules {
		rule := &route.Rules[i]
		for j := range rule.Matches {
			m := &rule.Matches[j]
			out = append(out, candidate{match: m, target: Target{route, rule, m.Path, name}})
		}
	}
	return out
}

func (s *ruleset) add(all []candidate) {
	for i := range all {
		c := &all[i]
		m := c.match
		if m.Exact {
			file(&s.exact, m.Path, c)
			continue
		}
		file(&s.prefix, m.Path, c)
		s.longest, s.deepest = max(s.longest, len(m.Path)), max(s.deepest, strings.Count(m.Path, "/"))
	}
}

// file adds a candidate for a path. Of thousands of hosts, each with few paths, none has a map that it does not need.
func file(under *map[string][]*candidate, path string, c *candidate) {
	if *under == nil {
		*under = map[string][]*candidate{}
	}
	(*under)[path] = append((*under)[path], c)
}

func (s *ruleset) sort() {
	for _, lists := range []map[string][]*candidate{s.exact, s.prefix} {
		for _, list := range lists {
			slices.SortStableFunc(list, compareCandidates)
		}
	}
}

// compareCandidates orders matches of the same path: one with a gRPC method first, one with a method, then more headers, more query parameters. Of what is the same in that, what
// was added first is first.
func compareCandidates(a, b *candidate) int {
	named := func(c *candidate) int { return min(len(c.match.Method), 1) }
	called := func(c *candidate) int { return min(len(c.match.RPC), 1) }
	return cmp.Or(
		cmp.Compare(called(b), called(a)),
		cmp.Compare(named(b), named(a)),
		cmp.Compare(len(b.match.Headers), len(a.match.Headers)),
		cmp.Compare(len(b.match.Query), len(a.match.Query)),
	)
}

// Find is what takes a request; nil: nothing does. It is what Port asks for each.
func (t *Table) Find(r *http.Request) *Target {
	found, _ := find(t, r)
	return found.target
}

// listener is the one that takes requests for a host; nil: none.
func (t *Table) listener(host string) *site {
	s, _ := t.listeners.best(host)
	return s
}

// Match finds what takes a request for a host (see hostOf) and a path (see pathOf); nil: nothing does. It does not allocate, unless a rule asks for the query, and that is
// escaped or has more than fewParameters parameters.
func (s *site) Match(r *http.Request, host, path string) *Target {
	q := query{raw: r.URL.RawQuery}
	// As in hosts.each, without a function: one that captures is allocated.
	if set, ok := s.hosts.exact[host]; ok {
		if t := set.match(r, &q, path); t != nil {
			return t
		}
	}
	if len(s.hosts.wild) > 0 {
		for i := 1; i < len(host); i++ {
			if host[i] != '.' {
				continue
			}
			if set, ok := s.hosts.wild[host[i:]]; ok {
				if t := set.match(r, &q, path); t != nil {
					return t
				}
			}
		}
	}
	if s.hosts.every {
		return s.hosts.any.match(r, &q, path)
	}
	return nil
}

func (s *ruleset) match(r *http.Request, q *query, path string) *Target {
	if t := first(s.exact[path], r, q, path); t != nil {
		return t
	}
	// The prefixes of a path end where a slash begins, or at its end. The longest is looked for first.
	for end := s.start(path); end > 0; {
		if end <= s.longest {
			if t := first(s.prefix[path[:end]], r, q, path); t != nil {
				return t
			}
		}
		end = strings.LastIndexByte(path[:end], '/')
	}
	return first(s.prefix["/"], r, q, path)
}

// start is the end of the longest prefix of a path that can be one of ours. A path of thousands of slashes thus costs no more than one look.
func (s *ruleset) start(path string) int {
	slashes := 0
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		if slashes++; slashes > s.deepest || i > s.longest {
			return i
		}
	}
	return len(path)
}

func first(list []*candidate, r *http.Request, q *query, path string) *Target {
	for _, c := range list {
		if c.match.Method != "" && c.match.Method != r.Method && !c.asks(r) {
			continue
		}
		if c.match.RPC != "" && !calls(path, c.match.RPC) {
			continue
		}
		if headersFit(c.match.Headers, r) && q.fits(c.match.Query) {
			return &c.target
		}
	}
	return nil
}

func headersFit(wanted []mesh.NameValue, r *http.Request) bool {
	for _, w := range wanted {
		values := r.Header[w.Name]
		switch {
		case w.Name == "Host":
			if r.Host != w.Value {
				return false
			}
		case len(values) == 0:
			return false
		case len(values) == 1:
			if values[0] != w.Value {
				return false
			}
		case !joinedAre(values, w.Value):
			return false
		}
	}
	return true
}

// joinedAre says whether values are, joined by commas (RFC 9110, 5.3), a wanted one. It looks no farther than to the first difference: there may be tens of KiB of them, and many rules that ask.
func joinedAre(values []string, wanted string) bool {
	for i, v := range values {
		if i > 0 {
			if wanted == "" || wanted[0] != ',' {
				return false
			}
			wanted = wanted[1:]
		}
		if !strings.HasPrefix(wanted, v) {
			return false
		}
		wanted = wanted[len(v):]
	}
	return wanted == ""
}
