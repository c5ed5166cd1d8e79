// SPDX-License-Identifier: Apache-2.0

package translate

import "iter"

// few maps a key to a set of values that nearly always has one member: a pod is named by one slice, an address belongs to one pod. A map
// for each of them would be most of what a pod costs. However many members there are, a change costs the same.
type few[K, V comparable] struct {
	one  map[K]V
	more multi[K, V] // those beyond the one
}

func newFew[K, V comparable]() few[K, V] { return few[K, V]{map[K]V{}, multi[K, V]{}} }

func (f few[K, V]) add(k K, v V) {
	switch first, ok := f.one[k]; {
	case !ok:
		f.one[k] = v
	case first != v:
		f.more.add(k, v)
	}
}

func (f few[K, V]) remove(k K, v V) {
	if first, ok := f.one[k]; !ok || first != v {
		f.more.remove(k, v)
		return
	}
	delete(f.one, k)
	for next := range f.more[k] {
		f.one[k] = next
		f.more.remove(k, next)
		return
	}
}

func (f few[K, V]) has(k K) bool {
	_, ok := f.one[k]
	return ok
}

// of gives the values of a key, in no order.
func (f few[K, V]) of(k K) iter.Seq[V] {
	return func(yield func(V) bool) {
		if first, ok := f.one[k]; !ok || !yield(first) {
			return
		}
		for v := range f.more[k] {
			if !yield(v) {
				return
			}
		}
	}
}
