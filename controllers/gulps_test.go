// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// askedReader notes how much is asked of it at once, and gives no more than the next of its portions, then all that is asked for.
type askedReader struct {
	from     io.Reader
	portions []int
	asked    []int
}

func (a *askedReader) Read(p []byte) (int, error) {
	a.asked = append(a.asked, len(p))
	if len(a.portions) > 0 {
		p, a.portions = p[:min(len(p), a.portions[0])], a.portions[1:]
	}
	return a.from.Read(p)
}

// TestGulps: what is read is what came, whatever the portions; and the buffer is large while there is much.
func TestGulps(t *testing.T) {
	const k = 1 << 10
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = byte(i * 7 >> 3)
	}
	for _, tc := range []struct {
		name     string
		portions []int
		asked    []int // at first
	}{
		{"much from the beginning", nil, []int{8 * k, 16 * k, 32 * k, 64 * k, 128 * k, 256 * k, 256 * k}},
		{"little at a time", []int{100, 4 * k, 8*k - 1}, []int{8 * k, 8 * k, 8 * k, 8 * k}},
		{"much, then little", []int{8 * k, 16 * k, 32 * k, 100, 100}, []int{8 * k, 16 * k, 32 * k, 64 * k, 8 * k}},
		{"much, then less", []int{8 * k, 16 * k, 32 * k, 33 * k, 100}, []int{8 * k, 16 * k, 32 * k, 64 * k, 8 * k}},
	} {
		asked := &askedReader{from: bytes.NewReader(content), portions: tc.portions}
		got, err := io.ReadAll(iotest.HalfReader(&gulps{from: asked}))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes came, not those %d that were sent, %v", tc.name, len(got), len(content), err)
		}
		if !slices.Equal(asked.asked[:len(tc.asked)], tc.asked) {
			t.Errorf("%s: asked for %v, want %v first", tc.name, asked.asked, tc.asked)
		}
	}
	broken := errors.New("broken")
	got, err := io.ReadAll(&gulps{from: iotest.DataErrReader(io.MultiReader(bytes.NewReader(content[:5]), iotest.ErrReader(broken)))})
	if !errors.Is(err, broken) || len(got) != 5 {
		t.Errorf("of 5 bytes and an error came %d and %v", len(got), err)
	}
}
