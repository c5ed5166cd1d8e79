// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestListThatChangesIsReadAgain: rules and routes of a node change while they are listed, which keeps no pod from starting. Other errors do.
func TestListThatChangesIsReadAgain(t *testing.T) {
	broken := errors.New("no such family")
	for name, tc := range map[string]struct {
		disturbed int // times
		err       error
		want      int // reads
	}{
		"at rest": {want: 1}, "twice": {disturbed: 2, want: 3}, "always": {disturbed: 1 << 20, want: listTries}, "broken": {disturbed: 1, err: broken, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			all, err := undisturbed(func() ([]int, error) {
				reads++
				if reads <= tc.disturbed {
					return []int{reads}, netlink.ErrDumpInterrupted
				}
				return []int{reads}, tc.err
			})
			if !errors.Is(err, tc.err) || reads != tc.want || all[0] != tc.want {
				t.Errorf("%v, %v after %d reads", all, err, reads)
			}
		})
	}
}
