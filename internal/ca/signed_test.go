// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestSignedLeavesEnd follows a rotation: as long as a leaf of the old root may live it is counted, and after that it is not.
func TestSignedLeavesEnd(t *testing.T) {
	old, young := &x509.Certificate{Raw: []byte("old")}, &x509.Certificate{Raw: []byte("young")}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newSigned(func() time.Time { return now })
	s.add(old, now.Add(time.Hour))
	s.add(old, now.Add(24*time.Hour))
	now = now.Add(2 * time.Hour)
	s.add(young, now.Add(24*time.Hour))
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(s)
	told := func(name string, root *x509.Certificate) float64 {
		t.Helper()
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == name && m.Label[0].GetValue() == RootName(root) {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
		t.Fatalf("there is no %s of the root", name)
		return 0
	}
	expect := func(alive, aliveYoung float64) {
		t.Helper()
		if a, b := told("isthmus_ca_leaves_alive", old), told("isthmus_ca_leaves_alive", young); a != alive || b != aliveYoung {
			t.Errorf("%v leaves of the old root are alive, and %v of the young one; want %v and %v", a, b, alive, aliveYoung)
		}
	}
	expect(1, 1)
	now = now.Add(22*time.Hour - time.Minute)
	expect(1, 1)
	now = now.Add(signedTick + time.Minute)
	expect(0, 1)
	now = now.Add(24 * time.Hour)
	expect(0, 0)
	if got := told("isthmus_ca_leaves_signed_total", old); got != 2 {
		t.Errorf("%v leaves of the old root were signed, want 2", got)
	}
	if got, want := told("isthmus_ca_leaves_end_timestamp_seconds", old), time.Date(2026, 1, 2, 0, 10, 0, 0, time.UTC).Unix(); got != float64(want) {
		t.Errorf("the last leaf of the old root ends at %v, want %d", got, want)
	}
}

// TestSignedLeavesAreBounded has an authority whose root changes all the time, and one that signs for ever.
func TestSignedLeavesAreBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newSigned(func() time.Time { return now })
	root := func(i int) *x509.Certificate { return &x509.Certificate{Raw: []byte{byte(i)}} }
	for i := range 3 * maxSignedRoots {
		s.add(root(i), now.Add(time.Duration(i)*time.Hour))
	}
	if got := len(s.roots); got != maxSignedRoots {
		t.Errorf("%d roots are kept, want %d", got, maxSignedRoots)
	}
	if s.roots[RootName(root(3*maxSignedRoots-1))] == nil || s.roots[RootName(root(0))] != nil {
		t.Error("the youngest root is forgotten, or the oldest is not")
	}
	lasting := root(3*maxSignedRoots - 1)
	for range 3 * maxSignedTicks {
		now = now.Add(signedTick)
		s.add(lasting, now.Add(time.Hour))
	}
	if got := len(s.roots[RootName(lasting)].ends); got > maxSignedTicks+1 {
		t.Errorf("%d ticks are kept, want %d at most", got, maxSignedTicks)
	}
}
