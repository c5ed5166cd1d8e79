// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// docs/hbone.md is the specification of this wire. What it shows and counts is held against the code here, so that neither changes alone.

const specification = "../../docs/hbone.md"

func readSpecification(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(specification)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rows gives the cells of the table behind a marker, without its two lines of heading.
func rows(t *testing.T, text, marker string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(text, "<!-- "+marker+" -->\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	lines := strings.Split(table, "\n")
	if !found || len(lines) < 3 {
		t.Fatalf("%s has no table behind the marker %q", specification, marker)
	}
	var out [][]string
	for _, line := range lines[2:] {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		out = append(out, cells)
	}
	return out
}

// TestSpecifiedSettings holds the table of settings against DefaultSettings, both ways.
func TestSpecifiedSettings(t *testing.T) {
	defaults := reflect.ValueOf(DefaultSettings())
	missing := map[string]bool{}
	for i := range defaults.NumField() {
		if f := defaults.Type().Field(i); f.IsExported() && f.Type.Kind() != reflect.Func {
			missing[f.Name] = true
		}
	}
	for _, row := range rows(t, readSpecification(t), "settings") {
		name, text := row[0], row[1]
		if !missing[name] {
			t.Errorf("%s is no setting, or listed twice", name)
			continue
		}
		delete(missing, name)
		field := defaults.FieldByName(name)
		var got any
		if burst, rate, ok := strings.Cut(text, " at once, "); ok {
			got = Budget{Burst: number(t, burst), PerSecond: number(t, strings.TrimSuffix(rate, " per s"))}
		} else {
			got = reflect.ValueOf(number(t, text)).Convert(field.Type()).Interface()
		}
		if want := field.Interface(); got != want {
			t.Errorf("%s is %v in the document, and %v in the code", name, got, want)
		}
	}
	for name := range missing {
		t.Errorf("setting %s is not in the document", name)
	}
}

// number reads "200", "16 KiB" (in bytes) or "10 s" (in nanoseconds).
func number(t *testing.T, text string) int {
	t.Helper()
	digits, unit, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(digits)
	factor, known := map[string]int{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": int(time.Second), "min": int(time.Minute)}[unit]
	if err != nil || !known {
		t.Errorf("%q is no value", text)
	}
	return n * factor
}

// TestSpecifiedAuthorities reads the document's examples of good and bad targets.
func TestSpecifiedAuthorities(t *testing.T) {
	for _, row := range rows(t, readSpecification(t), "authorities") {
		a, err := ParseAuthority(row[0])
		got := "hostname"
		switch {
		case err != nil:
			got = "400"
		case a.IP.Is4():
			got = "IPv4"
		case a.IP.Is6():
			got = "IPv6"
		}
		if got != row[1] {
			t.Errorf("%q is %s to the code, and %s in the document", row[0], got, row[1])
		}
	}
}

// TestSpecifiedEvents finds every event of the code in the document.
func TestSpecifiedEvents(t *testing.T) {
	text := readSpecification(t)
	found := 0
	for _, name := range files(t, ".") {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`Event = "(\w+)"`).FindAllSubmatch(source, -1) {
			found++
			if !strings.Contains(text, "`"+string(m[1])+"`") {
				t.Errorf("event %s of %s is not in the document", m[1], name)
			}
		}
	}
	if found == 0 {
		t.Error("no events in the code")
	}
}

// TestCitedSectionsExist follows every "§" of the document, and every "hbone.md §" of the code. A "§" behind a name in the same breath, as in
// "RFC 9113 §8.5", is somebody else's.
func TestCitedSectionsExist(t *testing.T) {
	text := readSpecification(t)
	sections := map[string]bool{}
	prose := regexp.MustCompile("(?s)\n```.*?\n```").ReplaceAllString(text, "")
	for _, m := range regexp.MustCompile(`(?m)^#+ (?:Appendix )?([A-Z]|[0-9]+(?:\.[0-9]+)*)\.? `).FindAllStringSubmatch(prose, -1) {
		if sections[m[1]] {
			t.Errorf("two sections %s", m[1])
		}
		sections[m[1]] = true
	}
	cited := 0
	for _, m := range regexp.MustCompile(`(RFC [0-9]+\s)?§([0-9A-Z]+(?:\.[0-9]+)*)`).FindAllStringSubmatch(prose, -1) {
		if cited++; m[1] == "" && !sections[m[2]] {
			t.Errorf("the document cites §%s, which it has not", m[2])
		}
	}
	if cited == 0 || len(sections) == 0 {
		t.Errorf("%d citations of %d sections", cited, len(sections))
	}
	for _, root := range []string{".", "../../gateway", "../../nodeproxy", "../mtls", "../relay"} {
		for _, name := range files(t, root) {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`hbone\.md,? §([0-9A-Z]+(?:\.[0-9]+)*)`).FindAllStringSubmatch(string(source), -1) {
				if !sections[m[1]] {
					t.Errorf("%s cites §%s, which the document has not", name, m[1])
				}
			}
		}
	}
}

// files gives a directory's Go files without its tests.
func files(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}
