// SPDX-License-Identifier: Apache-2.0

package mesh

import "fmt"

// What may be told to a proxy, in bytes or entries. Receivers refuse what is more, and who tells keeps to it beforehand, so that what one object says never costs the others.
const (
	MaxName     = 253   // of a Kubernetes name or a DNS name (RFC 1035 §2.3.4, 255 with length bytes)
	MaxIdentity = 2048  // of a SPIFFE id (SPIFFE-ID §2.3), and of everything else that policies compare
	MaxValue    = 8192  // of a header's value, a path, or a query parameter
	MaxMembers  = 65536 // entries of one list
	// MaxPEM is of a certificate's chain, or of its key: a Secret holds no more.
	MaxPEM = 1 << 20
)

// faults keeps the first thing that is wrong.
type faults struct{ first string }

func (f *faults) add(format string, args ...any) {
	if f.first == "" {
		f.first = fmt.Sprintf(format, args...)
	}
}

// text wants s to have no more than most bytes.
func (f *faults) text(field, s string, most int) {
	if len(s) > most {
		f.add("%s has %d bytes, at most %d are taken", field, len(s), most)
	}
}

// must wants s to have something as well.
func (f *faults) must(field, s string, most int) {
	if s == "" {
		f.add("%s is empty", field)
	}
	f.text(field, s, most)
}

// texts wants no more than MaxMembers entries, each as must does.
func (f *faults) texts(field string, in []string, most int) {
	if len(in) > MaxMembers {
		f.add("%s has %d entries, at most %d are taken", field, len(in), MaxMembers)
		return
	}
	for _, s := range in {
		f.must(field, s, most)
	}
}
