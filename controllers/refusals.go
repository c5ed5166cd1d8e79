// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// vetting is who is told that objects of a cluster were refused.
type vetting struct {
	refused func() // an object, once more; called with the feed's lock held, and never after the feed was closed
	changed func() // status may differ; called without locks held
}

// maxRefusals bounds the refused objects of one cluster that are kept track of. Beyond it all are refused just the same, and counted by
// the metric, but status says "at least".
const maxRefusals = 1000

// refusals are the objects of one cluster that are refused as they now are. Its holder guards it.
type refusals struct {
	objects map[world.ObjectRef]*world.Refusal
	more    bool // than are kept
}

// note says how an object was judged; a nil refusal takes an earlier one back. It says whether status may differ now.
func (r *refusals) note(ref world.ObjectRef, why *world.Refusal) bool {
	before, had := r.objects[ref]
	switch {
	case why == nil:
		delete(r.objects, ref)
		return had
	case had:
		r.objects[ref] = why
		return *before != *why
	case len(r.objects) == maxRefusals:
		news := !r.more
		r.more = true
		return news
	}
	if r.objects == nil {
		r.objects = map[world.ObjectRef]*world.Refusal{}
	}
	r.objects[ref] = why
	return true
}

// refusedFacts is what status says of refusals. It is a value.
type refusedFacts struct {
	count   int
	more    bool   // than count
	example string // the first by kind and name
}

func (r *refusals) facts() refusedFacts {
	out := refusedFacts{count: len(r.objects), more: r.more && len(r.objects) == maxRefusals}
	var first world.ObjectRef
	for ref, why := range r.objects {
		if out.example == "" || ref.Compare(first) < 0 {
			first, out.example = ref, why.String()
		}
	}
	return out
}
