// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The forms of docs/hbone.md §13.1, §13.2 and §13.5, written down as they stand there.
var (
	endpointForm = regexp.MustCompile(`\A[A-Za-z0-9_-]{1,64}\z`)
	countForm    = regexp.MustCompile(`\A[0-9]+\z`)
	reasonForm   = regexp.MustCompile(`\A[a-z_]{1,64}\z`)
)

// FuzzGatewayHeaders has what a gateway's answer says be believed only in the forms that the specification gives, and within its bounds.
func FuzzGatewayHeaders(f *testing.F) {
	for _, seed := range []string{
		"", "aB3-_aB3-_aB3-_x", "a,b", " a , b,,c d,e", "10", "007", "+1", "-1", "1_0", "4294967295", "4294967296", "no_endpoint", "No endpoint",
		"\u00a0a", "a\u0085,b", "a\x00b", strings.Repeat("a", 65), strings.Repeat("a,", 100), strings.Repeat("0", 70) + "7",
	} {
		f.Add(seed)
	}
	either := func(form *regexp.Regexp, s string) string {
		if form.MatchString(s) {
			return s
		}
		return ""
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got, want := endpointName(value), either(endpointForm, value); got != want {
			t.Errorf("endpoint %q reads %q, want %q", value, got, want)
		}
		if got, want := gatewayReason(value), either(reasonForm, value); got != want {
			t.Errorf("reason %q reads %q, want %q", value, got, want)
		}
		count := 0
		if digits := strings.TrimLeft(value, "0"); countForm.MatchString(value) && len(digits) <= 10 {
			if n, _ := strconv.Atoi(digits); n < 1<<32 { // without digits it is 0
				count = min(n, 1<<20)
			}
		}
		if got := endpointCount(value); got != count {
			t.Errorf("endpoints %q reads %d, want %d", value, got, count)
		}
		var gone []string
		for _, name := range strings.Split(value, ",") {
			if name = strings.Trim(name, " \t"); endpointForm.MatchString(name) && len(gone) < 64 {
				gone = append(gone, name)
			}
		}
		if got := goneNames(value); strings.Join(got, ",") != strings.Join(gone, ",") {
			t.Errorf("gone %q reads %q, want %q", value, got, gone)
		}
	})
}
