// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"strings"
	"testing"
)

func TestParseIdentity(t *testing.T) {
	good := Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}
	for _, tc := range []struct {
		in string
		ok bool
	}{
		{"spiffe://cluster.local/ns/shop/sa/cart", true},
		{"spiffe://cluster.local/ns/shop/sa/cart/", false},
		{"spiffe://cluster.local/ns/shop/sa/", false},
		{"spiffe://cluster.local/ns//sa/cart", false},
		{"spiffe:///ns/shop/sa/cart", false},
		{"SPIFFE://cluster.local/ns/shop/sa/cart", false},
		{"spiffe://Cluster.local/ns/shop/sa/cart", false},
		{"https://cluster.local/ns/shop/sa/cart", false},
		{"spiffe://cluster.local/ns/shop/sa/cart?x=1", false},
		{"spiffe://cluster.local/ns/shop/sa/cart#x", false},
		{"spiffe://cluster.local:80/ns/shop/sa/cart", false},
		{"spiffe://me@cluster.local/ns/shop/sa/cart", false},
		{"spiffe://cluster.local/ns/sh%6fp/sa/cart", false},
		{"spiffe://cluster.local/ns/../sa/cart", false},
		{"spiffe://cluster.local/sa/cart/ns/shop", false},
		{"spiffe://cluster.local/ns/shop/sa/cart\x00", false},
		{"spiffe://cluster.local/ns/shop/sa/" + strings.Repeat("a", 2048), false},
		{"", false},
	} {
		got, err := ParseIdentity(tc.in)
		if (err == nil) != tc.ok {
			t.Errorf("ParseIdentity(%q): error %v, want ok %v", tc.in, err, tc.ok)
		}
		if tc.ok && (got != good || got.String() != tc.in) {
			t.Errorf("ParseIdentity(%q) = %#v, prints as %q", tc.in, got, got)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("spiffe://cluster.local/ns/shop/sa/cart")
	f.Add("spiffe://a/ns/b/sa/c/d")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseIdentity(s)
		if err == nil && id.String() != s {
			t.Fatalf("%q was read as %q", s, id)
		}
	})
}
