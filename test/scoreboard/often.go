// SPDX-License-Identifier: Apache-2.0

package main

import "context"

// oftenKey is the key in a context of the number that -n gives.
type oftenKey struct{}

func withOften(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, oftenKey{}, n)
}

// often is how many times a row is to do what it does many times: usual, unless -n says otherwise.
func often(ctx context.Context, usual int) int {
	if n, _ := ctx.Value(oftenKey{}).(int); n > 0 {
		return n
	}
	return usual
}
