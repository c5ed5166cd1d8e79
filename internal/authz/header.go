// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"net/textproto"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// headerFits compares the values of a header. Several lines of a name are one value with commas in between (RFC 9110 §5.2), but some see the first or the last of them only;
// and some take a name with underscores for the one with dashes.
func (s *subject) headerFits(name string, in []mesh.StringMatch, wide bool) bool {
	lines, others := s.request.Header[name], s.underscored(name)
	if len(lines) == 0 && (len(others) == 0 || !wide) {
		return false
	}
	cost := 0
	for _, list := range [...][]string{lines, others} {
		for _, line := range list {
			cost += 1 + len(line)>>8
			if wide {
				cost += strings.Count(line, ",")
			}
		}
	}
	if !s.spend(cost * len(in)) {
		return wide
	}
	if wide {
		return anyLine(in, lines) || anyLine(in, others)
	}
	if len(lines) == 1 && len(others) == 0 {
		return anyFits(in, lines[0])
	}
	joined := strings.Join(lines, ",")
	if len(others) == 0 && slices.Contains(in, mesh.StringMatch{Value: joined}) {
		return true
	}
	unfit := func(line string) bool { return !anyFits(in, line) }
	return !unfit(joined) && !slices.ContainsFunc(lines, unfit) && !slices.ContainsFunc(others, unfit)
}

// anyLine says whether anything that lines of a header can be read as fits. A header that is there and empty is there.
func anyLine(in []mesh.StringMatch, lines []string) bool {
	if len(lines) == 0 {
		return false
	}
	if slices.ContainsFunc(in, func(m mesh.StringMatch) bool { return m.Kind == mesh.MatchPresence }) {
		return true
	}
	if len(lines) > 1 && (anyFits(in, strings.Join(lines, ",")) || anyFits(in, strings.Join(lines, ", "))) {
		return true
	}
	for _, line := range lines {
		if anyFits(in, line) {
			return true
		}
		if strings.IndexByte(line, ',') < 0 {
			continue
		}
		for element := range strings.SplitSeq(line, ",") {
			if anyFits(in, textproto.TrimString(element)) {
				return true
			}
		}
	}
	return false
}

// underscored are the values of headers whose name is another's with underscores in place of dashes.
func (s *subject) underscored(name string) []string {
	if !s.looked {
		s.looked = true
		for n, values := range s.request.Header {
			if strings.IndexByte(n, '_') < 0 {
				continue
			}
			if s.folded == nil {
				s.folded = map[string][]string{}
			}
			like := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(n, "_", "-"))
			s.folded[like] = append(s.folded[like], values...)
		}
	}
	return s.folded[name]
}
