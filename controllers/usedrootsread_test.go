// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// writtenRoot is what a Secret may say of a root.
func writtenRoot(t testing.TB, certificate string, longest int64, until *time.Time) []byte {
	t.Helper()
	text, err := json.Marshal(usedRoot{Certificate: certificate, Longest: longest, Until: until})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestARootThatIsSaidTwice: which of two entries is read first is a matter of chance, what comes of them is not.
func TestARootThatIsSaidTwice(t *testing.T) {
	root := string(selfSignedFiles(t)[ca.RootKey])
	early, late := time.Unix(1e9, 0).UTC(), time.Unix(2e9, 0).UTC()
	for name, tc := range map[string]struct {
		data  map[string][]byte
		until *time.Time
	}{
		"one that is in use":     {map[string][]byte{"a": writtenRoot(t, root, 60, &late), "b": writtenRoot(t, root, 3600, nil)}, nil},
		"two that were":          {map[string][]byte{"a": writtenRoot(t, root, 3600, &early), "b": writtenRoot(t, root, 60, &late)}, &late},
		"one with words around":  {map[string][]byte{"a": writtenRoot(t, "words\n"+root+"words", 3600, &late)}, &late},
		"one, and what are none": {map[string][]byte{"a": writtenRoot(t, root, 3600, &late), "b": writtenRoot(t, root, -1, nil), "c": writtenRoot(t, "", 1, nil), "d": []byte("{")}, &late},
	} {
		for range 20 {
			got := decodeUsedRoots(tc.data)
			if len(got) != 1 {
				t.Fatalf("%s: %d roots", name, len(got))
			}
			for _, u := range got {
				if u.Longest != 3600 || !reflect.DeepEqual(u.Until, tc.until) || u.Certificate != root {
					t.Fatalf("%s: %d s until %v, %q", name, u.Longest, u.Until, u.Certificate)
				}
			}
		}
	}
}

// FuzzUsedRoots: whatever the Secret holds, what is read of it is roots, each under its name and with bounds that we keep, and what is written then is read as the same.
func FuzzUsedRoots(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var roots []string
	var signers []*ca.Signer
	for range 2 {
		files, err := ca.SelfSigned("cluster.local")
		if err != nil {
			f.Fatal(err)
		}
		s, err := ca.NewSigner(files)
		if err != nil {
			f.Fatal(err)
		}
		roots, signers = append(roots, string(files[ca.RootKey])), append(signers, s)
	}
	soon := now.Add(time.Hour)
	for _, pair := range [][2][]byte{
		{nil, []byte("{}")},
		{writtenRoot(f, roots[0], 86400, nil), writtenRoot(f, roots[1], 0, &soon)},
		{writtenRoot(f, roots[0], 86400, &soon), writtenRoot(f, roots[0], int64(ca.MaxLifetime/time.Second), nil)},
		{writtenRoot(f, roots[1], int64(ca.MaxLifetime/time.Second)+1, nil), writtenRoot(f, "x\n"+roots[1]+roots[0], 1, nil)},
		{fmt.Appendf(nil, `{"certificate":%q,"until":"9999-12-31T23:59:59.999999999-23:59"}`, roots[0]), fmt.Appendf(nil, `{"CERTIFICATE":%q,"until":"0000-01-01T00:00:00+23:59"}`, roots[0])},
		{fmt.Appendf(nil, `{"certificate":%q,"until":"2026-01-01T00:30:00.5+14:00","longestSeconds":1e3}`, roots[1]), fmt.Appendf(nil, `{"certificate":%q,"until":null}`, roots[1])},
	} {
		f.Add(pair[0], pair[1], false)
		f.Add(pair[1], pair[0], true)
	}
	f.Fuzz(func(t *testing.T, a, b []byte, forget bool) {
		data := map[string][]byte{"a": a, "b": b}
		used := decodeUsedRoots(data)
		readAgain := func(r usedRoots) {
			t.Helper()
			again := decodeUsedRoots(r.encode())
			if !maps.EqualFunc(r, again, func(x, y usedRoot) bool {
				return x.Certificate == y.Certificate && x.Longest == y.Longest && (x.Until == nil) == (y.Until == nil) && (x.Until == nil || x.Until.Equal(*y.Until)) && x.parsed.Equal(y.parsed)
			}) {
				t.Fatalf("%s and %s: %v is read as %v", a, b, r, again)
			}
		}
		readAgain(used)
		for name, u := range used {
			if u.parsed == nil || !u.parsed.IsCA || name != ca.RootName(u.parsed) || u.Certificate != certificateText(u.parsed) || u.Longest < 0 || u.Longest > int64(ca.MaxLifetime/time.Second) {
				t.Fatalf("%s and %s hold %+v", a, b, u)
			}
		}
		next := used.issuing(signers[0], time.Hour, now, forget)
		readAgain(next)
		top := ca.RootName(signers[0].Top())
		if len(next) > maxUsedRoots || next[top].parsed == nil || next[top].Until != nil || next[top].Longest < max(used[top].Longest, 3600) {
			t.Fatalf("%s and %s with a signer are %v", a, b, next)
		}
		for name, u := range next {
			if name != top && (u.Until == nil || !now.Before(*u.Until) || !now.Before(u.parsed.NotAfter) || forget) {
				t.Fatalf("%s and %s: %+v is remembered", a, b, u)
			}
		}
		describeRoots(next.missing(signers[0]))
	})
}

// TestTheRootsOfManyIssuers: of more than are remembered, those go that are needed no longer first, also if a Secret held any number.
func TestTheRootsOfManyIssuers(t *testing.T) {
	now := time.Now()
	used := usedRoots{}
	var last time.Time
	for i := range maxUsedRoots + 8 {
		root := authorityOf(t, selfSignedFiles(t)).Top()
		last = now.Add(time.Duration(i+1) * time.Minute)
		until := last
		used[ca.RootName(root)] = usedRoot{Certificate: certificateText(root), Until: &until, parsed: root}
	}
	signer := authorityOf(t, selfSignedFiles(t))
	next := decodeUsedRoots(used.encode()).issuing(signer, time.Hour, now, false)
	missing := next.missing(signer)
	if len(next) != maxUsedRoots || len(missing) != maxUsedRoots-1 {
		t.Fatalf("%d are remembered, %d of them are missing", len(next), len(missing))
	}
	if first, end := *missing[0].Until, *missing[len(missing)-1].Until; !end.Equal(last) || last.Sub(first) != (maxUsedRoots-2)*time.Minute {
		t.Errorf("from %s to %s are kept, and %s is the last", first, end, last)
	}
}
