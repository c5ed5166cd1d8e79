// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// some makes candidates a, b, c, … with the given capacities.
func some(capacities ...uint32) (out []candidate) {
	for i, n := range capacities {
		out = append(out, candidate{uid: string(rune('a' + i)), capacity: n})
	}
	return out
}

func pick(t *testing.T, b *balancer, a attempt) string {
	t.Helper()
	a.entry.service = cartKey
	c, id, ok := b.begin(a)
	if !ok {
		return ""
	}
	if id != endpointID(a.network, c.uid) {
		t.Errorf("id %q of %q", id, c.uid)
	}
	return c.uid
}

func TestEqualsTakeTurns(t *testing.T) {
	b := newBalancer(time.Now)
	b.slow = -1
	var got strings.Builder
	for range 7 {
		uid := pick(t, b, attempt{candidates: some(1, 1, 1)})
		got.WriteString(uid)
		b.end(uid)
	}
	if got.String() != "abcabca" {
		t.Errorf("short streams went to %s", got.String())
	}
	got.Reset()
	for range 4 { // one of them leaves, another comes
		uid := pick(t, b, attempt{candidates: some(1, 1, 1, 1)[1:]})
		got.WriteString(uid)
		b.end(uid)
	}
	if got.String() != "bcdb" {
		t.Errorf("after a change they went to %s", got.String())
	}
}

func TestFewestStreamsForTheCapacity(t *testing.T) {
	b := newBalancer(time.Now)
	n := map[string]int{}
	for range 40 {
		n[pick(t, b, attempt{candidates: some(1, 2, 1)})]++
	}
	if fmt.Sprint(n) != "map[a:10 b:20 c:10]" {
		t.Errorf("long streams: %v", n)
	}
	for range 5 {
		b.end("c")
	}
	for range 5 {
		if uid := pick(t, b, attempt{candidates: some(1, 2, 1)}); uid != "c" {
			t.Errorf("%s took a stream while c has room", uid)
		}
	}
}

func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(time.Now)
		b.slow = -1
		one := func() string {
			uid := pick(t, b, attempt{candidates: some(1, 1)})
			b.end(uid)
			return uid
		}
		one()
		one() // both are known now
		if out, already := b.failed("a"); already || out < time.Second || out > 1200*time.Millisecond {
			t.Errorf("first failure: out for %v, already %v", out, already)
		}
		for range 4 {
			if uid := one(); uid != "b" {
				t.Errorf("%s was picked", uid)
			}
		}
		if _, out, _ := b.counts(); out != 1 {
			t.Errorf("%d endpoints are out, want 1", out)
		}
		time.Sleep(1300 * time.Millisecond)
		if uid := one() + one(); uid != "ab" {
			t.Errorf("after its time %s were picked", uid)
		}
		if out, already := b.failed("a"); already || out < 2*time.Second || out > 2400*time.Millisecond {
			t.Errorf("second failure: out for %v", out)
		}
		b.succeeded("a")
		if uid := one(); uid != "a" {
			t.Errorf("a answered, and %s was picked", uid)
		}
		for range 100 { // that find the same failure
			if out, _ := b.failed("a"); out > 1200*time.Millisecond {
				t.Fatalf("out for %v", out)
			}
		}
		if _, already := b.failed("a"); !already {
			t.Error("a failed 101 times and was not out")
		}
		for range 20 {
			time.Sleep(40 * time.Second)
			if out, already := b.failed("a"); already || out > 36*time.Second {
				t.Fatalf("out for %v, already %v", out, already)
			}
		}
		b.failed("b")
		if uid := one(); uid != "b" {
			t.Errorf("both are out, %s is back later", uid)
		}
		if out, _ := b.failed("unknown"); out != 0 {
			t.Errorf("unknown endpoint: out for %v", out)
		}
	})
}

func TestClassesOfEndpoints(t *testing.T) {
	b := newBalancer(time.Now)
	for range 3 {
		b.end(pick(t, b, attempt{candidates: some(1, 1, 1)}))
	}
	b.failed("a")
	id := func(uid string) string { return endpointID("", uid) }
	set := func(s ...string) map[string]struct{} {
		m := map[string]struct{}{}
		for _, k := range s {
			m[k] = struct{}{}
		}
		return m
	}
	for _, tc := range []struct {
		tried, avoid map[string]struct{}
		want         string
	}{
		{nil, set(id("b")), "c"},
		{nil, set(id("b"), id("c")), "b"}, // avoided is better than out
		{set("b", "c"), nil, "a"},         // out is better than nothing
		{set("a", "b", "c"), nil, ""},
		{set("c"), set(id("b")), "b"},
	} {
		uid := pick(t, b, attempt{candidates: some(1, 1, 1), tried: tc.tried, avoid: tc.avoid})
		if uid != tc.want {
			t.Errorf("tried %v, avoid %v: %q, want %q", tc.tried, tc.avoid, uid, tc.want)
		}
		b.end(uid)
	}
}

func TestSweepForgetsWhatIsGoneAndIdle(t *testing.T) {
	b := newBalancer(time.Now)
	for i := range 2 * sweepAt {
		c := []candidate{{uid: fmt.Sprint(i), capacity: 1}}
		pick(t, b, attempt{candidates: c})
		if i != 7 {
			b.end(c[0].uid)
		}
	}
	b.sweep(func(uid string) bool { return uid == "9" })
	if known, _, _ := b.counts(); known != 2 {
		t.Errorf("%d endpoints known, want the one that lives and the one in use", known)
	}
	if len(b.last) != 0 {
		t.Error("the last turn of an endpoint that is gone was kept")
	}
	b.end("7")
	b.sweep(func(string) bool { return false })
	if known, _, _ := b.counts(); known != 2 {
		t.Errorf("%d endpoints known: few are not worth a sweep", known)
	}
}

func TestEndpointIDs(t *testing.T) {
	a := endpointID("west", "x")
	if a != endpointID("west", "x") || a == endpointID("east", "x") || a == endpointID("west", "y") || strings.Contains(a, "x/") || len(a) != 16 {
		t.Errorf("id %q", a)
	}
}

// TestParseAvoid: what is no id is not counted, and white space is what HTTP says it is.
func TestParseAvoid(t *testing.T) {
	a, b := endpointID("west", "a"), endpointID("west", "b")
	var many []string
	for i := range maxAvoid + 1 {
		many = append(many, endpointID("west", fmt.Sprint(i)))
	}
	for name, tc := range map[string]struct {
		value string
		want  []string
	}{
		"nothing":                    {"", nil},
		"one":                        {a, []string{a}},
		"white space and nothing":    {"\t" + a + " ,, \t," + b + ",", []string{a, b}},
		"one twice":                  {a + "," + a, []string{a}},
		"as many as are heeded":      {strings.Join(many, ","), many[:maxAvoid]},
		"ids after what is no id":    {strings.Repeat("x,y-z,", maxAvoid) + a + "," + b, []string{a, b}},
		"ids after ones of no use":   {numbered(maxAvoid) + a, []string{a}},
		"other white space":          {a + "\u00a0," + b + "\v", nil},
		"a line's end":               {a + "\r\n", nil},
		"longer, shorter and padded": {a + "a," + a[1:] + "," + a[:15] + "=", nil},
		"the other base64":           {a[:14] + "+/," + b, []string{b}},
		"quoted":                     {`"` + a + `"`, nil},
	} {
		got := slices.Sorted(maps.Keys(parseAvoid(tc.value)))
		if want := slices.Sorted(slices.Values(tc.want)); !slices.Equal(got, want) {
			t.Errorf("%s: %d ids %v, want %v", name, len(got), got, want)
		}
	}
}

// numbered is a list of so many different things that are no ids.
func numbered(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "pod-%d, ", i)
	}
	return out.String()
}

// FuzzParseAvoid: as many of the ids that are there as are heeded, and nothing else.
func FuzzParseAvoid(f *testing.F) {
	a, b := endpointID("west", "a"), endpointID("west", "b")
	f.Add("a, b,,c ,")
	f.Add(strings.Repeat("x,y", 1000))
	f.Add(a + ", " + b + "\t," + a)
	f.Add(numbered(maxAvoid) + a + "\u00a0," + b)
	id := regexp.MustCompile(`^[ \t]*([A-Za-z0-9_-]{16})[ \t]*$`)
	f.Fuzz(func(t *testing.T, s string) {
		want := map[string]struct{}{}
		for _, element := range strings.Split(s, ",") {
			if m := id.FindStringSubmatch(element); m != nil && len(want) < maxAvoid {
				want[m[1]] = struct{}{}
			}
		}
		if got := parseAvoid(s); !maps.Equal(got, want) {
			t.Fatalf("%q is %v, want %v", s, got, want)
		}
	})
}

// What is left out is used all the same by first attempts when too little is left, weighed by capacity; whoever was sent to a bad one goes on to a good one.
func TestBalancerPanicsByCapacity(t *testing.T) {
	for _, tc := range []struct {
		name       string
		capacities []uint32
		failed     int // of them, the first so many
		distrusted int // the same, for TLS
		again      bool
		picks      int // how many different ones
		near       int // the first so many are nearer than the others
	}{
		{"half of ten", slices.Repeat([]uint32{1}, 10), 5, 0, false, 5, 0},
		{"eight of ten", slices.Repeat([]uint32{1}, 10), 8, 0, false, 2, 0},
		{"nine of ten", slices.Repeat([]uint32{1}, 10), 9, 0, false, 10, 0},
		{"nine of ten, again", slices.Repeat([]uint32{1}, 10), 9, 0, true, 1, 0},
		{"nine of ten for their TLS", slices.Repeat([]uint32{1}, 10), 0, 9, false, 10, 0},
		{"eight of ten for their TLS", slices.Repeat([]uint32{1}, 10), 0, 8, false, 2, 0},
		{"the large one", []uint32{9, 1, 1}, 1, 0, false, 3, 0},
		{"the small ones", []uint32{1, 1, 9}, 2, 0, false, 1, 0},
		{"all", []uint32{1, 1, 1}, 3, 0, false, 3, 0},
		{"the nine near ones", slices.Repeat([]uint32{1}, 10), 9, 0, false, 1, 9},
		{"eight of the nine near ones", slices.Repeat([]uint32{1}, 10), 8, 0, false, 1, 9},
		{"seven of the nine near ones", slices.Repeat([]uint32{1}, 10), 7, 0, false, 2, 9},
	} {
		now := time.Unix(1000, 0)
		b := newBalancer(func() time.Time { return now })
		a := attempt{network: "west", entry: entry{service: cartKey}, distrusted: map[string]struct{}{}}
		for i, capacity := range tc.capacities {
			a.candidates = append(a.candidates, candidate{uid: fmt.Sprintf("pod-%02d", i), capacity: capacity})
			if i < tc.near {
				a.candidates[i].rank = 1
			}
		}
		if _, _, ok := b.begin(a); !ok { // all are known
			t.Fatal(tc.name)
		}
		b.end(a.candidates[0].uid)
		for i, c := range a.candidates {
			if i < tc.failed {
				b.failed(c.uid)
			}
			if i < tc.distrusted {
				a.distrusted[c.uid] = struct{}{}
			}
		}
		if tc.again {
			a.tried = map[string]struct{}{"somebody": {}}
		}
		seen := map[string]struct{}{}
		for range 3 * len(a.candidates) {
			c, _, ok := b.begin(a) // and none ends, so that each gets one in the end
			if !ok {
				t.Fatal(tc.name)
			}
			seen[c.uid] = struct{}{}
		}
		if len(seen) != tc.picks {
			t.Errorf("%s: %d are picked, want %d", tc.name, len(seen), tc.picks)
		}
	}
}
