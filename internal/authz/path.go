// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"
	"strings"
	"unicode"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// longestPath is how long a path may be that can be read in several ways, in bytes. It bounds what its readings cost; no ordinary one is nearly as long.
	longestPath = 2 << 10
	// mostReadings and mostRead are how many readings of a path are looked at, and how many bytes these may have together: a path with more is nobody's. An ordinary one has two or three.
	mostReadings = 128
	mostRead     = 16 << 10
	// decodings is how often escapes are decoded by those behind us: some do so again after somebody before them did.
	decodings = 2
)

// pathReading is one way in which a path is read.
type pathReading struct {
	path    string
	decoded int // how often, before
}

// pathReadings are those of one path besides itself, made when they are first asked for.
type pathReadings struct {
	made  bool
	odd   bool // nobody knows what it is read as
	more  []pathReading
	bared []string // without what may be left out at the end
}

// pathFits compares the path. A pattern is read as often decoded as the path is.
func (s *subject) pathFits(in []mesh.StringMatch, wide bool) bool {
	if s.readings().odd {
		return wide
	}
	if wide {
		return s.anyPathFits(in)
	}
	return s.everyPathFits(in)
}

// readings are those of the request's path, made once for a judgement.
func (s *subject) readings() *pathReadings {
	if !s.paths.made {
		s.paths = readPath(s.request.Path)
	}
	return &s.paths
}

// anyPathFits says whether any reading fits any reading of a pattern.
func (s *subject) anyPathFits(in []mesh.StringMatch) bool {
	r := &s.paths
	path := s.request.Path
	for i := range in {
		if !s.spend(s.costOf(&in[i]) * (1 + len(r.more) + len(r.bared))) {
			return true
		}
		pattern := in[i]
		for range decodings + 1 {
			if fits(&pattern, path) || slices.ContainsFunc(r.more, func(p pathReading) bool { return fits(&pattern, p.path) }) ||
				slices.ContainsFunc(r.bared, func(p string) bool { return fits(&pattern, p) }) {
				return true
			}
			plain := pattern.Value
			if pattern.Kind != mesh.MatchTemplate { // in which a brace would become another one
				plain = decode(plain)
			}
			if plain == pattern.Value {
				break
			}
			pattern.Value = plain
		}
	}
	return false
}

// everyPathFits says whether all readings fit. Who names the very bytes that are asked for means whatever they are read as.
func (s *subject) everyPathFits(in []mesh.StringMatch) bool {
	r := &s.paths
	fit := false
	for i := range in {
		if !s.spend(s.costOf(&in[i]) * (1 + len(r.more))) {
			return false
		}
		if in[i].Kind == mesh.MatchExact && in[i].Value == s.request.Path {
			return true
		}
		fit = fit || fits(&in[i], s.request.Path)
	}
	if !fit {
		return false
	}
	for _, p := range r.more {
		if !slices.ContainsFunc(in, func(m mesh.StringMatch) bool {
			for i := 0; i < p.decoded && m.Kind != mesh.MatchTemplate; i++ {
				m.Value = decode(m.Value)
			}
			return fits(&m, p.path)
		}) {
			return false
		}
	}
	return true
}

// costOf is what one comparison of the path with a pattern costs: an escaped one is decoded, and a template is compared element by element.
func (s *subject) costOf(m *mesh.StringMatch) int {
	if m.Kind == mesh.MatchTemplate {
		return 1 + min(len(s.request.Path), len(m.Value))
	}
	if strings.IndexByte(m.Value, '%') >= 0 {
		return 2 + len(m.Value)>>3
	}
	return 1 + min(len(s.request.Path), len(m.Value))>>6
}

// foldings are what those behind us do to a path, in any order, besides decoding it.
var foldings = [...]func(string) string{
	func(path string) string { return strings.ReplaceAll(path, `\`, "/") },
	withoutEnd, withoutParameters, withoutDots, oneSlash, withoutControls, trimmed,
}

// onlyOne says whether nobody reads a path in more than one way, but for what may be left out at its end.
func onlyOne(path string) bool {
	for i := range len(path) {
		switch c := path[i]; {
		case c <= ' ', c >= 0x7f, c == '%', c == '\\', c == ';', c == '?', c == '#', (c == '/' || c == '.') && i > 0 && path[i-1] == '/':
			return false
		}
	}
	return true
}

// readPath gives the ways in which a path may be read by those behind us, each at most once: all that foldings and, at most twice, decoding make of it in any order and number. Who
// resolves dots before and after he decodes, or in between takes parameters away, reads something that none of these gives alone.
func readPath(path string) pathReadings {
	out := pathReadings{made: true}
	switch {
	case !strings.HasPrefix(path, "/"):
		out.odd = true
		return out
	case onlyOne(path):
		if bare := bared(path); bare != path {
			out.bared = []string{bare}
		}
		return out
	case len(path) > longestPath:
		out.odd = true
		return out
	}
	seen := map[string]struct{}{path: {}}
	all := []pathReading{{path: path}}
	read := len(path)
	add := func(p string, decoded int) {
		if _, ok := seen[p]; !ok {
			seen[p] = struct{}{}
			all = append(all, pathReading{p, decoded})
			read += len(p)
		}
	}
	// What is decoded less often comes first: of the ways to a reading, that with most decodings left counts.
	first := 0
	for decoded := range decodings + 1 {
		last := first
		for ; last < len(all); last++ {
			for _, fold := range foldings {
				if p := fold(all[last].path); p != all[last].path {
					add(p, decoded)
				}
			}
			if len(all) > mostReadings || read > mostRead {
				return pathReadings{made: true, odd: true}
			}
		}
		for ; first < last && decoded < decodings; first++ {
			add(decode(all[first].path), decoded+1)
			if len(all) > mostReadings || read > mostRead {
				return pathReadings{made: true, odd: true}
			}
		}
	}
	out.more = all[1:]
	for _, p := range all {
		if bare := bared(p.path); bare != p.path {
			if _, ok := seen[bare]; !ok {
				seen[bare] = struct{}{}
				out.bared = append(out.bared, bare)
			}
		}
	}
	return out
}

// bared takes from a path what may be left out at its end: many give the same for it with a slash.
func bared(path string) string {
	if end := strings.TrimRight(path, "/"); end != "" {
		return end
	}
	return "/"
}

// oneSlash makes one slash of several.
func oneSlash(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	var b strings.Builder
	b.Grow(len(path))
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

// withoutEnd takes away what follows a character that ends a path in a URL, or a string in C.
func withoutEnd(path string) string {
	if end := strings.IndexAny(path, "?#\x00"); end >= 0 {
		return path[:end]
	}
	return path
}

// withoutParameters takes away what follows a semicolon in an element.
func withoutParameters(path string) string {
	if strings.IndexByte(path, ';') < 0 {
		return path
	}
	var b strings.Builder
	b.Grow(len(path))
	inside := false
	for i := range len(path) {
		switch path[i] {
		case '/':
			inside = false
		case ';':
			inside = true
		}
		if !inside {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// withoutControls takes away what cannot be printed, as readers of URLs do with some of it.
func withoutControls(path string) string {
	if strings.IndexFunc(path, isControl) < 0 {
		return path
	}
	b := make([]byte, 0, len(path))
	for i := range len(path) {
		if !isControl(rune(path[i])) {
			b = append(b, path[i])
		}
	}
	return string(b)
}

// trimmed takes white space, and what cannot be printed, from both ends of each element.
func trimmed(path string) string {
	cut := func(c rune) bool { return isControl(c) || unicode.IsSpace(c) }
	if strings.IndexFunc(path, cut) < 0 {
		return path
	}
	elements := strings.Split(path, "/")
	for i, e := range elements {
		elements[i] = strings.TrimFunc(e, cut)
	}
	return strings.Join(elements, "/")
}

// withoutDots resolves "." and "..", and keeps everything else, such as empty elements.
func withoutDots(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	elements := strings.Split(strings.TrimPrefix(path, "/"), "/")
	out := elements[:0]
	for i, e := range elements {
		switch e {
		case ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, e)
			continue
		}
		if i == len(elements)-1 {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// decode decodes escapes, and bytes that stand for an ASCII character in a form of UTF-8 that is too long, which some take for it.
func decode(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			if high, low := hex(path[i+1]), hex(path[i+2]); high < 16 && low < 16 {
				c = high<<4 | low
				i += 2
			}
		}
		out = append(out, c)
		if n := len(out); c&0xc0 == 0x80 && n > 1 {
			switch lead := out[n-2]; {
			case lead&0xfe == 0xc0:
				out = append(out[:n-2], lead<<6|c&0x3f)
			case n > 2 && out[n-3] == 0xe0 && lead&0xfe == 0x80:
				out = append(out[:n-3], lead<<6|c&0x3f)
			case n > 3 && out[n-4] == 0xf0 && out[n-3] == 0x80 && lead&0xfe == 0x80:
				out = append(out[:n-4], lead<<6|c&0x3f)
			}
		}
	}
	return string(out)
}

// hex gives 16 for what is no digit.
func hex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// fitsTemplate says whether a path is of the form of a valid template.
func fitsTemplate(t, path string) bool {
	for {
		at := strings.IndexByte(t, '{')
		if at < 0 {
			return t == path
		}
		if !strings.HasPrefix(path, t[:at]) {
			return false
		}
		t, path = t[at:], path[at:]
		if strings.HasPrefix(t, "{**}") {
			return true
		}
		end := strings.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		if end == 0 {
			return false
		}
		t, path = t[len("{*}"):], path[end:]
	}
}
