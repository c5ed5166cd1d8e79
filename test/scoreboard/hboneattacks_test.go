// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

func TestRepresentativeAttacksExist(t *testing.T) {
	for _, a := range representative {
		if _, ok := hostile.Named(hostile.Client, a.name); !ok {
			t.Errorf("there is no attack %q", a.name)
		}
	}
}
