// SPDX-License-Identifier: Apache-2.0

package translate

import "testing"

// Patterns have the form that requests are compared in, or none.
func TestHostForm(t *testing.T) {
	for pattern, want := range map[string]string{
		"*": "*", "a.example": "a.example", "a.example.": "a.example", "a.example.:0443": "a.example:443", "a.example:": "a.example", "10.0.0.1": "10.0.0.1", "10.0.0.1:080": "10.0.0.1:80",
		"[fd00:0::1]": "[fd00::1]", "[fd00:0::1]:080": "[fd00::1]:80", "fd00:0::1": "fd00::1", "::ffff:10.0.0.1": "10.0.0.1", "[::ffff:10.0.0.1]:80": "10.0.0.1:80",
		"foo*": "foo*", "foo.*": "foo.*", "foo.example.:80*": "foo.example:80*", "foo.example:*": "foo.example:*", "foo-*": "foo-*",
		"*.example.com": "*.example.com", "*.example.com.": "*.example.com", "*.example.com.:080": "*.example.com:80", "*-x.example": "*-x.example", "*:8080": "*:8080", "*:08080": "*:8080",
		"[fd00:*": "[fd00:*", "fd00:1:*": "fd00:1:*", "[fd00:0::1]*": "[fd00::1]*", "[fd00:0::1]:8*": "[fd00::1]:8*", "*:1]": "*:1]", "*:a1]:080": "*:a1]:80", "*80": "*80",
		// What no request has, or some in other words.
		"": "", "a..example": "", "exam ple": "", "http://a.example": "", "foo*.example": "", "*foo*": "", ".a.example": "", "[fd00::1": "", "[fd00::1%eth0]": "", "fe80::1%eth0": "", "a.example:x": "",
		".foo*": "", "foo..*": "", "foo.example:08*": "", "foo.example:x*": "", "*..example": "", "*.example:": "", "*.example:x": "", "*/x": "",
		"[2001:0db8:*": "", "[fd00::*": "", "[fd00:0:*": "", "[::ffff:10.*": "", "::ffff:10.*": "", "[fd00:0::1]:08*": "", "*::1]": "", "*:0001]": "", "*::1": "", "*:0:1]:80": "", "**": "",
	} {
		got, ok := hostForm(pattern)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%q is %q, want %q", pattern, got, want)
		}
	}
}
