// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/textproto"
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
		Hosts: t.wanted(t.texts(lower(o.Hosts), at+".hosts"), o.Hosts), NotHosts: t.texts(lower(o.NotHosts), at+".notHosts"),
		Methods: t.wanted(t.texts(o.Methods, at+".methods"), o.Methods), NotMethods: t.texts(o.NotMethods, at+".notMethods"),
		Paths: t.wanted(t.paths(o.Paths, at+".paths"), o.Paths), NotPaths: t.paths(o.NotPaths, at+".notPaths"),
	}
}

// wanted are the values of which one must fit. If one was lost, a DENY rule goes without all of them: one less would be a rule that denies less.
func (t *ruleTranslator) wanted(kept []mesh.StringMatch, all []string) []mesh.StringMatch {
	if t.deny && len(kept) < len(all) {
		return nil
	}
	return kept
}

func lower(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ToLower(s)
	}
	return out
}

// paths reads patterns of paths, and templates.
func (t *ruleTranslator) paths(in []string, what string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, p := range in {
		switch {
		case !strings.Contains(p, "{*}") && !strings.Contains(p, "{**}"):
			out = append(out, t.texts([]string{p}, what)...)
		case len(p) > longestIdentity:
			t.lose(fmt.Sprintf("%s: a value of %d bytes is longer than any that counts", what, len(p)))
		case !mesh.ValidTemplate(p):
			t.lose(fmt.Sprintf("%s: %q is no template: {*} and {**} stand for whole elements, {**} for the last one, and no other star or brace may be there", what, p))
		default:
			out = append(out, mesh.StringMatch{Kind: mesh.MatchTemplate, Value: p})
		}
	}
	return out
}

// headerOf is the header that the key of a condition is about, in its canonical form.
func headerOf(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, "request.headers[")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "]")
	if !ok || len(name) > longestName || !httpguts.ValidHeaderFieldName(name) {
		return "", false
	}
	return textproto.CanonicalMIMEHeaderKey(name), true
}
