// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"slices"
	"strings"
	"testing"
)

func TestWhatAGatewaySaysOfItsEndpoints(t *testing.T) {
	for value, want := range map[string]string{
		"":                       "",
		"aB3-_aB3-_aB3-_x":       "aB3-_aB3-_aB3-_x",
		"a,b":                    "",
		"a b":                    "",
		"ä":                      "",
		"a\x00b":                 "",
		strings.Repeat("a", 64):  strings.Repeat("a", 64),
		strings.Repeat("a", 65):  "",
		strings.Repeat("a", 9e3): "",
	} {
		if got := endpointName(value); got != want {
			t.Errorf("endpoint %q reads %q", value, got)
		}
	}
	for value, want := range map[string]int{"": 0, "0": 0, "10": 10, "-1": 0, "+1": 0, "1.5": 0, "many": 0, "4294967295": maxEndpoints, "99999999999": 0} {
		if got := endpointCount(value); got != want {
			t.Errorf("endpoints %q reads %d", value, got)
		}
	}
	for value, want := range map[string][]string{"": nil, "a": {"a"}, " a , b,,c d,e": {"a", "b", "e"}, ",": nil} {
		if got := goneNames(value); !slices.Equal(got, want) {
			t.Errorf("gone %q reads %q", value, got)
		}
	}
	if n := len(goneNames(strings.Repeat("a,", 1000))); n != maxGone {
		t.Errorf("%d of 1000 are gone", n)
	}
}
