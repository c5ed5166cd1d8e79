// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What `down --all` would remove: labs with any trace, and nothing that is not a lab. Labs of this machine's other caches may be there too.
func TestNames(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("ISTHMUS_CACHE", cache)
	if _, err := Names(); err != nil {
		t.Fatalf("without a directory of labs: %v", err)
	}
	for _, directory := range []string{"lab/zz9", "lab/.try-zz9-1", "lab/not-a-lab", "lab-failed/zz8"} {
		if err := os.MkdirAll(filepath.Join(cache, directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, "lab", "zz7"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	names, err := Names()
	if err != nil || !slices.Contains(names, "zz9") || !slices.IsSorted(names) {
		t.Errorf("%v, %v: want zz9 among them, sorted", names, err)
	}
	for _, name := range names {
		if CheckName(name) != nil || slices.Contains([]string{"zz8", "zz7", "not"}, name) {
			t.Errorf("%q is not a lab", name)
		}
	}
}
