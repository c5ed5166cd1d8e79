// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// TestDeputyOracle looks whether the oracle of ew-deputy says no for the sake of each part of an attempt.
func TestDeputyOracle(t *testing.T) {
	friend, stranger, nobody := &proof{name: "friend", valid: true, friend: true}, &proof{name: "stranger", valid: true}, &proof{name: "nobody"}
	cart, vault, secret, none := claim{"cart", deputyCart}, claim{"vault", deputyVault}, claim{"secret", deputySecret}, claim{"none", ""}
	for _, tc := range []struct {
		name    string
		attempt deputyAttempt
		service string
		allowed bool
	}{
		{"friend to vault", deputyAttempt{outer: friend, inner: friend, outerTo: vault, innerTo: vault}, deputyVault, true},
		{"stranger to cart", deputyAttempt{outer: stranger, inner: stranger, outerTo: cart, innerTo: cart}, deputyCart, true},
		{"another service got it", deputyAttempt{outer: friend, inner: friend, outerTo: cart, innerTo: cart}, deputyVault, false},
		{"stranger to vault", deputyAttempt{outer: stranger, inner: stranger, outerTo: vault, innerTo: vault}, deputyVault, false},
		{"stranger within friend", deputyAttempt{outer: friend, inner: stranger, outerTo: vault, innerTo: vault}, deputyVault, false},
		{"friend within stranger", deputyAttempt{outer: stranger, inner: friend, outerTo: vault, innerTo: vault}, deputyVault, false},
		{"nobody outside", deputyAttempt{outer: nobody, inner: friend, outerTo: cart, innerTo: cart}, deputyCart, false},
		{"nobody inside", deputyAttempt{outer: friend, inner: nobody, outerTo: cart, innerTo: cart}, deputyCart, false},
		{"names differ", deputyAttempt{outer: friend, inner: friend, outerTo: cart, innerTo: vault}, deputyVault, false},
		{"no name", deputyAttempt{outer: friend, inner: friend, outerTo: none, innerTo: cart}, deputyCart, false},
		{"not exported", deputyAttempt{outer: friend, inner: friend, outerTo: secret, innerTo: secret}, deputySecret, false},
		{"not exported, from here", deputyAttempt{direct: deputySecret, outer: nobody, inner: stranger, innerTo: secret}, deputySecret, true},
		{"another pod from here", deputyAttempt{direct: deputyCart, outer: nobody, inner: stranger, innerTo: secret}, deputySecret, false},
		{"strange outside", deputyAttempt{outer: friend, inner: friend, outerTo: cart, innerTo: cart, outerStrange: true}, deputyCart, false},
		{"strange inside", deputyAttempt{outer: friend, inner: friend, outerTo: cart, innerTo: cart, innerStrange: true}, deputyCart, false},
	} {
		if got := tc.attempt.allowed(tc.service); got != tc.allowed {
			t.Errorf("%s: allowed to reach %s: %v, want %v", tc.name, tc.service, got, tc.allowed)
		}
	}
}
