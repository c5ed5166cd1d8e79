// SPDX-License-Identifier: Apache-2.0

package mesh

import "testing"

func TestPlainAuthority(t *testing.T) {
	for authority, want := range map[string]struct {
		host, port string
		ok         bool
	}{
		"A.com":            {"a.com", "", true},
		"a.com.:08080":     {"a.com", "8080", true},
		"a.com:":           {"a.com", "", true},
		"a.com:00":         {"a.com", "0", true},
		"10.0.0.1:80":      {"10.0.0.1", "80", true},
		"[FD00:0::1]:0080": {"fd00::1", "80", true},
		"[fd00::1]":        {"fd00::1", "", true},
		"[::ffff:1.2.3.4]": {"1.2.3.4", "", true},
		"fd00::1":          {},
		"[fd00::1":         {},
		"[fd00::1]x":       {},
		"[fe80::1%25eth0]": {},
		"[10.0.0.1]":       {},
		"a..com":           {},
		"a.com..":          {},
		".":                {},
		"":                 {},
		":80":              {},
		"a.com:8x":         {},
		"a%2ecom":          {},
		"a.com:80:80":      {},
	} {
		host, port, ok := PlainAuthority(authority)
		if host != want.host || port != want.port || ok != want.ok {
			t.Errorf("%q: %q, %q, %v, want %+v", authority, host, port, ok, want)
		}
	}
}
