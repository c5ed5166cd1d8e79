// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"flag"
	"fmt"
	"strings"
	"testing"
)

var part = flag.String("part", "", "run only a part of the list, such as 1/4: the tests of Gateways and GatewayClasses, and every fourth of the others from the first on")

// partOf leaves of a list what a part of it has; "" is all of it.
func partOf(list []chosen, part string) ([]chosen, error) {
	if part == "" {
		return list, nil
	}
	var at, of int
	if n, err := fmt.Sscanf(part, "%d/%d", &at, &of); err != nil || n != 2 || at < 1 || at > of {
		return nil, fmt.Errorf("-part %q is not like 1/4", part)
	}
	var out []chosen
	others := 0
	for _, c := range list {
		if strings.HasPrefix(c.Test, "Gateway") {
			out = append(out, c)
			continue
		}
		if others%of == at-1 {
			out = append(out, c)
		}
		others++
	}
	return out, nil
}

// TestPart: parts have all tests together, each but those of Gateways once.
func TestPart(t *testing.T) {
	list := []chosen{{Test: "GatewayA"}, {Test: "A"}, {Test: "B"}, {Test: "GatewayClassB"}, {Test: "C"}}
	seen := map[string]int{}
	for _, part := range []string{"1/2", "2/2"} {
		got, err := partOf(list, part)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got {
			seen[c.Test]++
		}
	}
	for _, c := range list {
		want := 1
		if strings.HasPrefix(c.Test, "Gateway") {
			want = 2
		}
		if seen[c.Test] != want {
			t.Errorf("%s is in %d parts, want %d", c.Test, seen[c.Test], want)
		}
	}
	for _, part := range []string{"0/2", "3/2", "x", "1"} {
		if _, err := partOf(list, part); err == nil {
			t.Errorf("-part %q is taken", part)
		}
	}
}
