// SPDX-License-Identifier: Apache-2.0

package mesh

import "strings"

// HostnamesMeet says whether two hostnames have one in common. Each may have a wildcard in front, which stands for one label or more, or be empty, which is all.
func HostnamesMeet(a, b string) bool {
	if a == "" || b == "" {
		return true
	}
	wildA, wildB := strings.HasPrefix(a, "*."), strings.HasPrefix(b, "*.")
	switch {
	case wildA && wildB:
		return strings.HasSuffix(a[1:], b[1:]) || strings.HasSuffix(b[1:], a[1:])
	case wildA:
		return strings.HasSuffix(b, a[1:]) && len(b) > len(a)-1
	case wildB:
		return strings.HasSuffix(a, b[1:]) && len(a) > len(b)-1
	default:
		return a == b
	}
}
