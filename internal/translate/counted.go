// SPDX-License-Identifier: Apache-2.0

package translate

// counted maps a key to values, of which it counts how often each was added. Like few it is for as many keys as there are pods, which mostly have one value.
type counted[K, V comparable] map[K]times[V]

// times is one value with its count, and perhaps more.
type times[V comparable] struct {
	one  V
	n    int
	more map[V]int // without one; nil: none
}

// add says whether the value is a new one.
func (m counted[K, V]) add(k K, v V) bool {
	t, ok := m[k]
	switch {
	case !ok:
		t = times[V]{one: v, n: 1}
	case t.one == v:
		t.n++
	default:
		if t.more == nil {
			t.more = map[V]int{}
		}
		t.more[v]++
		ok = t.more[v] > 1
	}
	m[k] = t
	return !ok
}

// remove takes back what add added before, and says whether that was the last time.
func (m counted[K, V]) remove(k K, v V) bool {
	t := m[k]
	if t.one != v {
		if t.more[v]--; t.more[v] > 0 {
			return false
		}
		delete(t.more, v)
		return true
	}
	if t.n--; t.n > 0 {
		m[k] = t
		return false
	}
	if len(t.more) == 0 {
		delete(m, k)
		return true
	}
	for t.one, t.n = range t.more {
		break
	}
	delete(t.more, t.one)
	m[k] = t
	return true
}

// of gives the values of a key, in no particular order.
func (m counted[K, V]) of(k K) func(yield func(V) bool) {
	return func(yield func(V) bool) {
		t, ok := m[k]
		if !ok || !yield(t.one) {
			return
		}
		for v := range t.more {
			if !yield(v) {
				return
			}
		}
	}
}

// holds says whether a key has a value.
func (m counted[K, V]) holds(k K, v V) bool {
	t, ok := m[k]
	return ok && (t.one == v || t.more[v] > 0)
}
