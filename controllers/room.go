// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// DefaultRoom is how much is kept of one remote cluster, in bytes by world.Size: about 200,000 pods with ten labels each, twice the endpoints that all clusters
// of a mesh together are built for.
const DefaultRoom = 512 << 20

// errFull ends a watch, and refuses another one, of a cluster of which too much is kept already. Lists are still read, within their own bound: they replace what is
// kept, and so notice that the cluster has shrunk.
var errFull = errors.New("more is kept of the cluster than there is room for")

// room counts what a feed's caches keep.
type room struct {
	most int64 // 0: no bound, and nothing is counted
	kept atomic.Int64
}

// add notes that an object came (before is nil) or changed.
func (r *room) add(before, after *seen) {
	n := after.size()
	if before != nil {
		n -= before.size()
	}
	r.kept.Add(n)
}

// freed notes that an object went of which a value was kept, or none: nil. What went before all of the cluster was read counts as if there had been none, too: to count too much is safe, and
// few objects go then.
func (r *room) freed(value world.Object) {
	if r.most > 0 {
		r.kept.Add(-(&seen{value: value}).size())
	}
}

func (r *room) full() bool { return r.most > 0 && r.kept.Load() > r.most }

// refusedSize is about what remembering a refused object takes, in bytes: names, and why.
const refusedSize = 1 << 10

func (s *seen) size() int64 {
	if s.value == nil {
		return refusedSize
	}
	return world.Size(s.value)
}
