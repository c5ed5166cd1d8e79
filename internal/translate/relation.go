// SPDX-License-Identifier: Apache-2.0

package translate

// set is a set of comparable values. A nil one takes nothing: it is for those who do not want to know.
type set[K comparable] map[K]struct{}

func (s set[K]) add(k K) {
	if s != nil {
		s[k] = struct{}{}
	}
}

func (s set[K]) has(k K) bool { _, ok := s[k]; return ok }

// multi maps a key to a set of values.
type multi[K, V comparable] map[K]set[V]

func (m multi[K, V]) add(k K, v V) {
	s := m[k]
	if s == nil {
		s = set[V]{}
		m[k] = s
	}
	s.add(v)
}

func (m multi[K, V]) remove(k K, v V) {
	s := m[k]
	if delete(s, v); len(s) == 0 {
		delete(m, k)
	}
}

// put has v there or not, and says whether that is news.
func (m multi[K, V]) put(k K, v V, there bool) bool {
	if m[k].has(v) == there {
		return false
	}
	if there {
		m.add(k, v)
	} else {
		m.remove(k, v)
	}
	return true
}

// few is a multi for keys that mostly have one value, such as the pods at an address: there are as many keys as pods, and a map for
// each would be most of our memory (about 500 bytes; this is the size of one value).
type few[K, V comparable] map[K]some[V]

// some is one value, and perhaps more.
type some[V comparable] struct {
	one  V
	more set[V] // without one; nil: none
}

func (m few[K, V]) add(k K, v V) {
	s, ok := m[k]
	switch {
	case !ok:
		m[k] = some[V]{one: v}
	case s.one == v:
	case s.more == nil:
		m[k] = some[V]{s.one, set[V]{v: {}}}
	default:
		s.more.add(v)
	}
}

func (m few[K, V]) remove(k K, v V) {
	s, ok := m[k]
	if !ok {
		return
	}
	if s.one != v {
		delete(s.more, v)
	} else {
		if len(s.more) == 0 {
			delete(m, k)
			return
		}
		for other := range s.more {
			s.one = other
			break
		}
		delete(s.more, s.one)
	}
	if len(s.more) == 0 {
		s.more = nil
	}
	m[k] = s
}

// of gives the values of a key, in no particular order.
func (m few[K, V]) of(k K) func(yield func(V) bool) {
	return func(yield func(V) bool) {
		s, ok := m[k]
		if !ok || !yield(s.one) {
			return
		}
		for v := range s.more {
			if !yield(v) {
				return
			}
		}
	}
}

func (m few[K, V]) has(k K) bool { _, ok := m[k]; return ok }
