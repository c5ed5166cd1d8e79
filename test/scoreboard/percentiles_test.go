// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64((i*37)%100 + 1) // 1 to 100 in some order
	}
	for _, tc := range []struct {
		v    []float64
		p    float64
		want float64
	}{
		{hundred, 0, 1},
		{hundred, 1, 1},
		{hundred, 1.5, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.1, 100},
		{hundred, 100, 100},
		{[]float64{7}, 0, 7},
		{[]float64{7}, 99, 7},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{4, 3, 1, 2}, 50, 2},
		{[]float64{3, 1, 2}, 99, 3},
	} {
		if got := percentile(tc.v, tc.p); got != tc.want {
			t.Errorf("percentile %g of %d values: %g, want %g", tc.p, len(tc.v), got, tc.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		v    []float64
		want float64
	}{
		{[]float64{5}, 5},
		{[]float64{9, 1, 5}, 5},
		{[]float64{9, 1}, 9},
		{[]float64{4, 1, 3, 2}, 3},
	} {
		given := append([]float64(nil), tc.v...)
		if got := median(tc.v); got != tc.want {
			t.Errorf("median of %v: %g, want %g", given, got, tc.want)
		}
		for i := range given {
			if given[i] != tc.v[i] {
				t.Fatalf("median changed %v to %v", given, tc.v)
			}
		}
	}
}
