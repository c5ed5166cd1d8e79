// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
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

// TestRefusalsSayWhatTheGatewaySaid: the reason is in the log of who was refused, if it is a word.
func TestRefusalsSayWhatTheGatewaySaid(t *testing.T) {
	for value, want := range map[string]string{
		"": "with status 503", "not_exported": "with status 503 (not_exported)", "a b": "with status 503", "x\"": "with status 503", "NO": "with status 503", strings.Repeat("a", 65): "with status 503",
	} {
		refused := &hbone.RefusedError{Status: 503, Header: hbone.Header{{Name: headerReason, Value: value}}}
		r := RefusalOf(fmt.Errorf("tunnel: %w", refused))
		if r.Status != 503 || !strings.HasSuffix(r.Error(), want) {
			t.Errorf("%q: %v", value, r)
		}
	}
}
