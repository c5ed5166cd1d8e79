// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// request is what an operation asks of a request; nil: nothing.
func (t *ruleTranslator) request(o world.PolicyOperation, at string) *mesh.RequestMatch {
	if len(o.Hosts)+len(o.NotHosts)+len(o.Methods)+len(o.NotMethods)+len(o.Paths)+len(o.NotPaths) == 0 {
		return nil
	}
	return &mesh.RequestMatch{
		Hosts: t.wanted(t.hosts(o.Hosts, at+".hosts"), o.Hosts), NotHosts: t.hosts(o.NotHosts, at+".notHosts"),
		Methods: t.wanted(t.texts(o.Methods, at+".methods"), o.Methods), NotMethods: t.texts(o.NotMethods, at+".notMethods"),
		Paths: t.wanted(t.paths(o.Paths, at+".paths"), o.Paths), NotPaths: t.paths(o.NotPaths, at+".notPaths"),
	}
}

// keep adds a pattern of a path, in its form: escapes may have made it longer than it was.
func (t *ruleTranslator) keep(out []mesh.StringMatch, m mesh.StringMatch, what string) []mesh.StringMatch {
	if len(m.Value) > mesh.MaxIdentity {
		t.lose(fmt.Sprintf("%s: a path of %d bytes, with its escapes, is longer than any that counts", what, len(m.Value)))
		return out
	}
	return append(out, m)
}

// wanted are the values of which one must fit. If one was lost, a DENY rule goes without all of them: one less would be a rule that denies less.
func (t *ruleTranslator) wanted(kept []mesh.StringMatch, all []string) []mesh.StringMatch {
	if t.deny && len(kept) < len(all) {
		return nil
	}
	return kept
}

// paths reads patterns of paths, and templates, in the form that requests have (mesh.PlainEscapes).
func (t *ruleTranslator) paths(in []string, what string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, p := range in {
		switch {
		case strings.ContainsAny(p, "?#"):
			t.lose(fmt.Sprintf("%s: %.100q is more than a path: queries and fragments are none of it", what, p))
		case !strings.Contains(p, "{*}") && !strings.Contains(p, "{**}"):
			m := stringMatch(p)
			m.Value = mesh.PlainEscapes(m.Value)
			out = t.keep(out, m, what)
		case !mesh.ValidTemplate(p):
			t.lose(fmt.Sprintf("%s: %.100q is no template: {*} and {**} stand for whole elements, {**} for the last one, and no other star or brace may be there", what, p))
		default:
			elements := strings.Split(p, "/")
			for i, e := range elements {
				if !strings.HasPrefix(e, "{") {
					elements[i] = mesh.PlainEscapes(e)
				}
			}
			out = t.keep(out, mesh.StringMatch{Kind: mesh.MatchTemplate, Value: strings.Join(elements, "/")}, what)
		}
	}
	return out
}

// condition is what a condition asks of a request; nil: nothing, or nothing that anybody here decides.
func (t *ruleTranslator) condition(w world.PolicyCondition, at string) *mesh.RequestMatch {
	key := at + ".key " + strconv.Quote(w.Key)
	header, ok := headerOf(w.Key)
	switch {
	case !ok:
		t.lose(key + " is nothing that anybody here decides")
		return nil
	case header != "Host" && !mesh.HeaderJudged(header):
		t.lose(key + " is about a header that belongs to a connection, and not to a request")
		return nil
	}
	read := t.texts
	if header == "Host" {
		read = t.hosts
	}
	values, notValues := t.wanted(read(w.Values, at+".values"), w.Values), read(w.NotValues, at+".notValues")
	if len(values)+len(notValues) == 0 {
		return nil // as with the other keys, it says nothing
	}
	t.above(key + " is something that only an L7 proxy can know")
	if header == "Host" {
		return &mesh.RequestMatch{Hosts: values, NotHosts: notValues}
	}
	return &mesh.RequestMatch{Headers: []mesh.HeaderMatch{{Name: header, Values: values, NotValues: notValues}}}
}

// headerOf is the header that the key of a condition is about, in its canonical form.
func headerOf(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, "request.headers[")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "]")
	if !ok || len(name) > mesh.MaxName || !httpguts.ValidHeaderFieldName(name) {
		return "", false
	}
	return textproto.CanonicalMIMEHeaderKey(name), true
}
