// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// authorityOf is a self-signed one that trusts others, too.
func authorityOf(t *testing.T, files map[string][]byte, others ...map[string][]byte) *ca.Signer {
	t.Helper()
	roots := files[ca.RootKey]
	for _, o := range others {
		roots = slices.Concat(roots, o[ca.RootKey])
	}
	s, err := ca.NewSigner(map[string][]byte{ca.CertKey: files[ca.CertKey], ca.KeyKey: files[ca.KeyKey], ca.RootKey: roots})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestARootStaysAsLongAsItVouches: for as long as certificates may be in use that were issued below it, also if nobody saw the issuer change, and not if somebody
// wants it gone.
func TestARootStaysAsLongAsItVouches(t *testing.T) {
	first, second, third := selfSignedFiles(t), selfSignedFiles(t), selfSignedFiles(t)
	begin := time.Now()
	type step struct {
		after   time.Duration // since the beginning
		signer  *ca.Signer
		longest time.Duration
		remove  bool
		missing []map[string][]byte
		until   time.Duration // of the last one
	}
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"the old root goes in time", []step{
			{0, authorityOf(t, first), day, false, nil, 0},
			{time.Hour, authorityOf(t, first, second), day, false, nil, 0},
			{2 * time.Hour, authorityOf(t, second, first), day, false, nil, 0},
			{2*time.Hour + day + rootSlack, authorityOf(t, second), day, false, nil, 0},
		}},
		{"too early", []step{
			{0, authorityOf(t, first, second), day, false, nil, 0},
			{2 * time.Hour, authorityOf(t, second, first), day, false, nil, 0},
			{3 * time.Hour, authorityOf(t, second), day, false, []map[string][]byte{first}, 2*time.Hour + day + rootSlack},
			{3*time.Hour + day, authorityOf(t, second), day, false, nil, 0},
		}},
		{"all at once", []step{
			{0, authorityOf(t, first), day, false, nil, 0},
			{time.Hour, authorityOf(t, second), day, false, []map[string][]byte{first}, time.Hour + day + rootSlack},
		}},
		{"certificates that last longer", []step{
			{0, authorityOf(t, first), 10 * day, false, nil, 0},
			{time.Hour, authorityOf(t, first, second), day, false, nil, 0}, // less by now, but what was issued lasts
			{2 * time.Hour, authorityOf(t, second), day, false, []map[string][]byte{first}, 2*time.Hour + 10*day + rootSlack},
		}},
		{"a root that never issued", []step{
			{0, authorityOf(t, first, third), day, false, nil, 0},
			{time.Hour, authorityOf(t, first), day, false, nil, 0},
		}},
		{"back and forth", []step{
			{0, authorityOf(t, first), day, false, nil, 0},
			{time.Hour, authorityOf(t, second, first), day, false, nil, 0},
			{2 * time.Hour, authorityOf(t, first, second), day, false, nil, 0},
			{3 * time.Hour, authorityOf(t, first), day, false, []map[string][]byte{second}, 2*time.Hour + day + rootSlack},
		}},
		{"two of them", []step{
			{0, authorityOf(t, first), day, false, nil, 0},
			{time.Hour, authorityOf(t, second, first), day, false, nil, 0},
			{2 * time.Hour, authorityOf(t, third), day, false, []map[string][]byte{first, second}, 2*time.Hour + day + rootSlack},
		}},
		{"one that is not to be trusted any more", []step{
			{0, authorityOf(t, first), day, false, nil, 0},
			{time.Hour, authorityOf(t, second), day, true, nil, 0},
			{2 * time.Hour, authorityOf(t, second), day, false, nil, 0},
		}},
	} {
		remembered := map[string][]byte{}
		for i, s := range tc.steps {
			now := begin.Add(s.after)
			used := decodeUsedRoots(remembered).issuing(s.signer, s.longest, now, s.remove) // a new process each time
			missing := used.missing(s.signer)
			if len(missing) != len(s.missing) {
				t.Fatalf("%s, step %d: %d roots are missing, want %d", tc.name, i, len(missing), len(s.missing))
			}
			for j, m := range missing {
				if !bytes.Equal([]byte(m.Certificate), s.missing[j][ca.RootKey]) {
					t.Errorf("%s, step %d: another root is missing: %s", tc.name, i, describeRoots(missing))
				}
				if last := j == len(missing)-1; last && m.Until.Sub(begin.Add(s.until)).Abs() > time.Second {
					t.Errorf("%s, step %d: until %s, want %s", tc.name, i, m.Until.Sub(begin), s.until)
				}
			}
			remembered = used.encode()
		}
	}
}

// TestARootFromBeforeRootsWereRemembered: what was issued below the root that is in use at first may last as long as any certificate; below one made meanwhile, no longer
// than ours.
func TestARootFromBeforeRootsWereRemembered(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	first, second := authorityOf(t, selfSignedFiles(t)), authorityOf(t, selfSignedFiles(t))
	used := usedRoots(nil).issuing(first, day, now, false)
	used = decodeUsedRoots(used.encode()).issuing(second, day, now, false)
	missing := used.missing(second)
	if len(missing) != 1 || missing[0].Until.Sub(now.Add(ca.MaxLifetime+rootSlack)).Abs() > time.Second {
		t.Errorf("missing: %s", describeRoots(missing))
	}
	if got := used[ca.RootName(second.Top())].Longest; got != int64(day/time.Second) {
		t.Errorf("certificates of the second last %d s", got)
	}
}

// TestUsedRootsAreShown: by a metric, as they are now.
func TestUsedRootsAreShown(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	first, second := authorityOf(t, selfSignedFiles(t)), authorityOf(t, selfSignedFiles(t))
	a := NewAuthority(nil, nil, "isthmus-system", "cluster.local", logr.Discard(), nil, func() {})
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(a.used)
	shown := func() map[string]float64 {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				out[m.Label[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
		return out
	}
	used := usedRoots{}.issuing(first, day, now, false)
	a.showUsed(used)
	if got := shown(); len(got) != 1 || !math.IsInf(got[ca.RootName(first.Top())], 1) {
		t.Errorf("while it issues: %v", got)
	}
	used = used.issuing(second, day, now, false)
	a.showUsed(used)
	until := now.Add(day + rootSlack).Unix()
	if got := shown(); len(got) != 2 || got[ca.RootName(first.Top())] != float64(until) || !math.IsInf(got[ca.RootName(second.Top())], 1) {
		t.Errorf("after the issuer changed: %v, want %d for the first", got, until)
	}
	a.showUsed(used.issuing(second, day, now.Add(2*day), false))
	if got := shown(); len(got) != 1 {
		t.Errorf("after the last leaf ended: %v", got)
	}
}

// TestUsedRootsAreBounded: whatever is written there, and however often the issuer changes.
func TestUsedRootsAreBounded(t *testing.T) {
	used := usedRoots{}
	now := time.Now()
	for range maxUsedRoots + 8 {
		used = used.issuing(authorityOf(t, selfSignedFiles(t)), 24*time.Hour, now, false)
		now = now.Add(time.Second)
	}
	if len(used) != maxUsedRoots {
		t.Errorf("%d are remembered, want %d", len(used), maxUsedRoots)
	}
	data := used.encode()
	data["nonsense"], data["none"], data["leaf"] = []byte("{"), []byte(`{"certificate":"-"}`), []byte(`{"longestSeconds":-1}`)
	if again := decodeUsedRoots(data); len(again) != len(used) {
		t.Errorf("%d of %d came back", len(again), len(used))
	}
}

// selfSignedFiles are those of a new root.
func selfSignedFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return files
}
