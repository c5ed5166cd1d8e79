// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestRejectedNames(t *testing.T) {
	sent := []*entry{{kind: kindWorkload, name: "east//Pod/shop/cart-0"}, {kind: kindService, name: "shop/cart.shop.svc"}, {kind: kindPolicy, name: "shop/deny"},
		{kind: kindBundle, name: "else.example"}, {kind: kindGateway, name: "shop/gw"}}
	var many []*entry
	var reasons []string
	for i := range 100 {
		many = append(many, &entry{kind: kindWorkload, name: fmt.Sprintf("w%d", i)})
		reasons = append(reasons, fmt.Sprintf("w%d: bad", i))
	}
	for _, tc := range []struct {
		reason string
		sent   []*entry
		want   []RejectedResource
		count  int
	}{
		{"east//Pod/shop/cart-0: unknown tunnel", sent, []RejectedResource{{"Workload", "east//Pod/shop/cart-0"}}, 1},
		{"shop/deny: no rules; shop/cart.shop.svc: bad port; and 3 more", sent, []RejectedResource{{"Service", "shop/cart.shop.svc"}, {"Policy", "shop/deny"}}, 2},
		{"else.example: no root; shop/gw: no port", sent, []RejectedResource{{"Bundle", "else.example"}, {"Gateway", "shop/gw"}}, 2},
		{"east//Pod/shop/cart-01: of another response", sent, nil, 0},
		{"", sent, nil, 0},
		{"shop/deny: x", nil, nil, 0},
		{strings.Join(reasons, "; "), many, nil, maxRejected},
		{strings.Repeat("x ", maxRejectionBytes) + "w1: beyond what is read", many, nil, 0},
	} {
		got := rejected(tc.sent, tc.reason)
		if len(got) != tc.count || tc.want != nil && !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%.40q names %v, want %d: %v", tc.reason, got, tc.count, tc.want)
		}
	}
}
