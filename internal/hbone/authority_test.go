// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseAuthority(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Authority
	}{
		{"10.0.0.7:8080", Authority{IP: netip.MustParseAddr("10.0.0.7"), Port: 8080}},
		{"[fd00::7]:80", Authority{IP: netip.MustParseAddr("fd00::7"), Port: 80}},
		{"cart.shop.svc.cluster.local:80", Authority{Hostname: "cart.shop.svc.cluster.local", Port: 80}},
		{"localhost:65535", Authority{Hostname: "localhost", Port: 65535}},
		{"_tcp.a-b.C:1", Authority{Hostname: "_tcp.a-b.C", Port: 1}},
		{"1password.com:443", Authority{Hostname: "1password.com", Port: 443}},
	} {
		got, err := ParseAuthority(tc.in)
		if err != nil || got != tc.want || got.String() != tc.in {
			t.Errorf("%q: %+v, %v", tc.in, got, err)
		}
	}
	for _, in := range []string{
		"", ":", ":80", "a", "a:", "a:0", "a:65536", "a:080", "a:+80", "a:-1", "a:8 0", "a:80:", "a b:80", "a@b:80", "a/b:80", "http://a:80",
		"fd00::7:80", "[fd00::7]", "[fd00::7]80", "[fd00::7:80", "[10.0.0.7]:80", "[fd00::7%eth0]:80", "[]:80", "[a]:80",
		"10.0.0:80", "10.0.0.256:80", "010.0.0.1:80", "1:80", "a.1:80", "a..b:80", ".a:80", "a.:80", "-a:80", "a-:80", "a-.b:80", "a.-b:80",
		"ä.de:80", "a\x00:80", "a\n:80", "*.a:80", strings.Repeat("a", 64) + ":80", strings.Repeat("a.", 127) + "a:80",
	} {
		if got, err := ParseAuthority(in); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"10.0.0.7:8080", "[fd00::7]:80", "cart.shop.svc.cluster.local:80", "a:0", "[::]:1", "a.1:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAuthority(s)
		if err != nil {
			return
		}
		if a.Port == 0 || a.Host() == "" || a.IP.IsValid() == (a.Hostname != "") {
			t.Fatalf("%q was read as %+v", s, a)
		}
		again, err := ParseAuthority(a.String())
		if err != nil || again != a {
			t.Fatalf("%q was read as %+v, that as %+v, %v", s, a, again, err)
		}
	})
}
