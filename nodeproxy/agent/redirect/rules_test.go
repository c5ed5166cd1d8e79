// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestRulesGolden(t *testing.T) {
	for name, o := range map[string]Options{
		"default":            {Inbound: true, DNS: true},
		"default-ipv6":       {Inbound: true, DNS: true, IPv6: true},
		"without-dns":        {Inbound: true},
		"ingress":            {DNS: true, IPv6: true},
		"virtual-interfaces": {Inbound: true, VirtualInterfaces: []string{"tap0", "docker0"}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, table := range Rules(o) {
				b.WriteString(table.String())
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("rules changed (-want +got), rewrite with -update if that is meant:\n%s", diff)
			}
		})
	}
}

// The proxy's own traffic must pass every rule that captures, or it would be captured for ever.
func TestEveryCaptureExemptsTheProxy(t *testing.T) {
	for _, table := range Rules(Options{Inbound: true, DNS: true, IPv6: true}) {
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				s := r.String()
				if strings.Contains(s, "redirect to") && !strings.Contains(s, "meta mark & 0x00000fff != 0x00000539") {
					t.Errorf("%s %s captures the proxy: %s", table.Name, c.Name, s)
				}
			}
		}
	}
}
