// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// readers are what servers do with a path, made of other code than ours. None of them knows the others. false: it does not take such a path.
var readers = map[string]func(string) (string, bool){
	"decodes and cleans":       inTurn(unescape, cleaned),
	"cleans and decodes":       inTurn(cleaned, unescape),
	"cleans on both sides":     inTurn(cleaned, unescape, cleaned),
	"behind one who decoded":   inTurn(unescape, unescape, cleaned),
	"cleans before and after":  inTurn(unescape, cleaned, unescape, cleaned),
	"has parameters":           inTurn(unparametered, unescape, cleaned),
	"has parameters, decoded":  inTurn(unescape, unparametered, cleaned),
	"has strings of C":         inTurn(unescape, upTo("\x00"), cleaned),
	"makes a URL of it":        inTurn(unescape, inURL, cleaned),
	"makes a URL of it, twice": inTurn(unescape, inURL, cleaned, unescape, inURL, cleaned),
	"trims":                    inTurn(unescape, strings.TrimSpace, cleaned),
	"trims elements":           inTurn(unescape, trimmedElements, cleaned),
	"trims, twice decoded":     inTurn(unescape, unescape, strings.TrimSpace, cleaned),
}

func inTurn(steps ...func(string) string) func(string) (string, bool) {
	return func(p string) (string, bool) {
		for _, step := range steps {
			if p = step(p); p == "" || p[0] != '/' {
				return "", false
			}
		}
		return p, true
	}
}

func cleaned(p string) string { return path.Clean(p) }

func unescape(p string) string {
	plain, err := url.PathUnescape(p)
	if err != nil {
		return ""
	}
	return plain
}

func upTo(end string) func(string) string {
	return func(p string) string {
		before, _, _ := strings.Cut(p, end)
		return before
	}
}

func eachElement(f func(string) string) func(string) string {
	return func(p string) string {
		elements := strings.Split(p, "/")
		for i := range elements {
			elements[i] = f(elements[i])
		}
		return strings.Join(elements, "/")
	}
}

var unparametered, trimmedElements = eachElement(upTo(";")), eachElement(strings.TrimSpace)

// inURL is what the URL standard of browsers makes of the path in a text.
func inURL(p string) string {
	p = strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(strings.TrimFunc(p, func(c rune) bool { return c <= ' ' }))
	return upTo("#")(upTo("?")(p))
}

// FuzzReaders: what any reader takes for a path below /admin is kept out by a policy about that, and what any of them takes for something else than a path below /public is not let in by one about that.
func FuzzReaders(f *testing.F) {
	for _, p := range []string{
		"/admin", "/admin%20", "/admin%09", "/%61dmin", "/admin;x", "//admin", "/./admin", "/x/../admin", "/admin%2f", "/%2561dmin", "/admin%2520/x", "/public/..%20/admin", "/public/.%09./admin",
		"/public/%252e%252e%2fadmin", "/public/a;b/..;/..%5cadmin%3Fx", "/ad%0Amin#x", "/%C2%A0/admin%E2%80%83", "/public/x", "/admin%00.jpg", "/public/\\..\\admin",
	} {
		f.Add(p)
	}
	admin := append(exact("/admin"), matching(mesh.MatchPrefix, "/admin/")...)
	public := append(exact("/public"), matching(mesh.MatchPrefix, "/public/")...)
	below := func(p, top string) bool { return p == top || strings.HasPrefix(p, top+"/") }
	f.Fuzz(func(t *testing.T, asked string) {
		asked = mesh.PlainEscapes(asked)
		_, keepsOut := verdicts(t, mesh.RequestMatch{Paths: admin}, Request{Path: asked})
		letsIn, _ := verdicts(t, mesh.RequestMatch{Paths: public}, Request{Path: asked})
		for name, read := range readers {
			p, ok := read(asked)
			if ok && below(p, "/admin") && !keepsOut {
				t.Errorf("%q is %q for one who %s, and is not kept out", asked, p, name)
			}
			if ok && !below(p, "/public") && letsIn {
				t.Errorf("%q is %q for one who %s, and is let in", asked, p, name)
			}
		}
	})
}
