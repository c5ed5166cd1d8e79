// SPDX-License-Identifier: Apache-2.0

package world

// waiting is what changed of a cluster: when each object did so first since it was handed out.
type waiting struct {
	// first is what others are judged by. It is handed out before them, and at once if it is no more than maxGathered: what one ServiceScope carves out of another is not to be
	// shared for as long as all else of its cluster takes.
	first map[ObjectRef]Mark
	rest  map[ObjectRef]Mark
}

func newWaiting() *waiting {
	return &waiting{first: map[ObjectRef]Mark{}, rest: map[ObjectRef]Mark{}}
}

// note adds an object that changed, which is there or is gone. What no longer judges comes with the rest, after what it judged is shared no more.
func (w *waiting) note(ref ObjectRef, there bool, now Mark) {
	at := now
	if before, has := w.rest[ref]; has {
		at = before
	}
	switch _, has := w.first[ref]; {
	case has: // as it is by then
	case ref.Kind == KindServiceScope, ref.Kind == KindNamespace && there:
		delete(w.rest, ref)
		w.first[ref] = at
	default:
		w.rest[ref] = at
	}
}

func (w *waiting) len() int { return len(w.first) + len(w.rest) }

// parts are both, in their order.
func (w *waiting) parts() [2]map[ObjectRef]Mark { return [2]map[ObjectRef]Mark{w.first, w.rest} }
