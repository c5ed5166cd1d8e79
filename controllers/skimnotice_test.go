// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// What is said to be a bookmark is not skimmed, so it must be no way past that for an object.
func TestEventNotice(t *testing.T) {
	kind := shapeOf("/api/v1/pods")
	says := func(out []byte, what string) []byte {
		return protowire.AppendString(protowire.AppendTag(out, 1, protowire.BytesType), what)
	}
	holds := func(out []byte, size int) []byte {
		return protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), make([]byte, size))
	}
	for _, c := range []struct {
		name  string
		event []byte
		ok    bool
	}{
		{"bookmark", holds(says(nil, "BOOKMARK"), 500), true},
		{"error", holds(says(nil, "ERROR"), 5000), true},
		{"an object called a bookmark", holds(says(nil, "BOOKMARK"), maxNotice), false},
		{"an object after a second word", says(holds(says(nil, "BOOKMARK"), 500), "ADDED"), false},
		{"an object before the word", says(holds(nil, 500), "ADDED"), false},
		{"no word", holds(nil, 500), false},
		{"cut", []byte{0xa, 200}, false},
	} {
		if _, what, _, ok := kind.event(nil, c.event); ok != c.ok {
			t.Errorf("%s: taken as %q: %v, want %v", c.name, what, ok, c.ok)
		}
	}
}
