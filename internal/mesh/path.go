// SPDX-License-Identifier: Apache-2.0

package mesh

import "strings"

// PlainEscapes gives the one form that the path of a URL has here: characters that need no escape have none (RFC 3986, 6.2.2.2), those that may not stand in a path
// have one, and escapes are in capitals. Everything else is left as it is, as it may mean something else escaped than not.
func PlainEscapes(path string) string {
	if !strings.ContainsFunc(path, func(c rune) bool { return c == '%' || c >= 0x80 || !pathByte(byte(c)) }) {
		return path
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(path) + 8)
	for i := 0; i < len(path); i++ {
		c := path[i]
		escaped := c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2])
		if escaped {
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			i += 2
		}
		if escaped && unreserved(c) || !escaped && c != '%' && pathByte(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&0xf])
	}
	return b.String()
}

// PlainPath gives the one form of a path in which requests and rules are compared: with plain escapes, and without "." and ".." (RFC 3986, 6.2.2.3). An escaped slash
// stays escaped: it is none.
func PlainPath(path string) string {
	path = PlainEscapes(path)
	if !strings.Contains(path, "/.") {
		return path
	}
	return withoutDots(path)
}

// withoutDots resolves "." and "..", and keeps everything else, such as empty elements.
func withoutDots(p string) string {
	elements := strings.Split(strings.TrimPrefix(p, "/"), "/")
	out := make([]string, 0, len(elements))
	for i, e := range elements {
		last := i == len(elements)-1
		switch e {
		case ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, e)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// pathByte says whether a character may stand in a path as it is (RFC 3986, 3.3); brackets may not, but browsers send them, and nobody minds.
func pathByte(c byte) bool { return unreserved(c) || strings.IndexByte("!$&'()*+,;=:@/[]", c) >= 0 }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return c - 'A' + 10
	}
}
