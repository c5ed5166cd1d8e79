// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNameservers(t *testing.T) {
	got := parseNameservers("# a comment\nsearch a b\nnameserver 10.96.0.10\nnameserver fd00::10\nnameserver nonsense\nnameserver\noptions ndots:5")
	if len(got) != 2 || got[0].String() != "10.96.0.10:53" || got[1].String() != "[fd00::10]:53" {
		t.Errorf("got %v", got)
	}
}

// TestNameserversOfOtherForms: what a resolver passes over is no server, and hides none.
func TestNameserversOfOtherForms(t *testing.T) {
	for line, want := range map[string]string{
		"nameserver 10.96.0.10#5353":        "", // dnsmasq's
		"nameserver 10.96.0.10:5353":        "",
		"nameserver [fd00::10]:53":          "",
		"nameserver [fd00::10]":             "",
		"nameserver fd00::10#dns.example":   "", // systemd's
		"nameserver 10.96.0.10#dns.example": "",
		"nameserver 10.96.0.10@5353":        "", // unbound's
		"nameserver dns.example":            "",
		"nameserver 010.96.0.10":            "", // octal to some, decimal to others
		"nameserver10.96.0.10":              "",
		"nameserver=10.96.0.10":             "",
		"NAMESERVER 10.96.0.10":             "",
		"# nameserver 10.96.0.10":           "",
		"nameserver 10.96.0.10 # cluster":   "10.96.0.10:53",
		"nameserver 10.96.0.10\r":           "10.96.0.10:53",
		"nameserver\t10.96.0.10 10.96.0.11": "10.96.0.10:53",
		"nameserver ::ffff:10.96.0.10":      "10.96.0.10:53",
		"nameserver 169.254.20.10":          "169.254.20.10:53", // of the node's own cache
		"nameserver fe80::1%eth0":           "",
		"nameserver fe80::1":                "",
		"nameserver fd00::10%eth0":          "[fd00::10]:53",
	} {
		var texts []string
		for _, server := range parseNameservers(line + "\nnameserver 192.0.2.53\n") {
			texts = append(texts, server.String())
		}
		if got := strings.Join(texts, " "); got != strings.TrimSpace(want+" 192.0.2.53:53") {
			t.Errorf("%q and another one: %s", line, got)
		}
	}
}

// TestNameserversAreBounded: no more servers are asked than any resolver asks, and no more of a file is read than one has.
func TestNameserversAreBounded(t *testing.T) {
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "nameserver 10.96.0.%d\n", i)
	}
	for name, tc := range map[string]struct {
		conf string
		want int
	}{
		"many servers":                 {many.String(), maxNameservers},
		"a large file":                 {"nameserver 10.96.0.10\n" + strings.Repeat("#", maxResolvConf-22), 1},
		"a larger file":                {"nameserver 10.96.0.10\n" + strings.Repeat("#", maxResolvConf-21), 0},
		"a server that the bound cuts": {strings.Repeat(" ", maxResolvConf-len("nameserver 10.96.0.1")) + "nameserver 10.96.0.10\n", 0},
	} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte(tc.conf), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Nameservers(file); len(got) != tc.want {
			t.Errorf("%s: %v, want %d", name, got, tc.want)
		}
	}
	if got := Nameservers(filepath.Join(t.TempDir(), "none")); got != nil {
		t.Errorf("of no file: %v", got)
	}
}

// FuzzNameservers: what is found is the first servers that the file names, each one that can be asked, and written down it is found again.
func FuzzNameservers(f *testing.F) {
	for _, seed := range []string{
		"", "# a comment\nsearch a b\nnameserver 10.96.0.10\nnameserver fd00::10\noptions ndots:5\n", "nameserver", "nameserver\t10.96.0.10\r\n", "nameserver 10.96.0.10 # cluster",
		"nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver nonsense\nnameserver 3.3.3.3\nnameserver 4.4.4.4\n", "nameserver fe80::1%eth0\n", "nameserver ::ffff:10.0.0.1%x\n", ";nameserver 10.0.0.1\n",
		"nameserver\n10.0.0.1\n", "nameservers 10.0.0.1\n", " nameserver\u00a010.0.0.1", "nameserver 10.0.0.1:53", "nameserver 010.0.0.1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, conf string) {
		got := parseNameservers(conf)
		if len(got) > maxNameservers || strings.Count(conf, "nameserver") < len(got) {
			t.Fatalf("%q has the servers %v", conf, got)
		}
		var written strings.Builder
		for _, server := range got {
			if !server.IsValid() || server.Addr().Is4In6() || server.Addr().Zone() != "" || server.Port() != 53 {
				t.Fatalf("%q has the server %v", conf, server)
			}
			fmt.Fprintf(&written, "nameserver %s\n", server.Addr())
		}
		if again := parseNameservers(written.String()); !slices.Equal(again, got) {
			t.Fatalf("%q has %v, which is written %q and read %v", conf, got, written.String(), again)
		}
		another := netip.MustParseAddrPort("192.0.2.53:53")
		want := slices.Clone(got)
		if want = append(want, another); len(want) > maxNameservers {
			want = want[:maxNameservers]
		}
		if more := parseNameservers(conf + "\nnameserver 192.0.2.53\n"); !slices.Equal(more, want) {
			t.Fatalf("%q with one more has %v, want %v", conf, more, want)
		}
	})
}
