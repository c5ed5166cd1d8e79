// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"hash/maphash"
	"maps"
	"reflect"
)

// shardCount is how many maps an index is split into. A change copies the array of shards (4 KiB) and one shard, so that with
// 100 000 keys a change copies about 200 entries instead of all.
const shardCount = 512

var seed = maphash.MakeSeed()

// index is a map that is never changed once a View holds it: writers copy the shards that they touch.
type index[K comparable, V any] struct {
	shards *[shardCount]map[K]V
}

func shardOf[K comparable](k K) int { return int(maphash.Comparable(seed, k) % shardCount) }

func (x index[K, V]) get(k K) (V, bool) {
	if x.shards == nil {
		var zero V
		return zero, false
	}
	v, ok := x.shards[shardOf(k)][k]
	return v, ok
}

// each calls f for all entries, in no order, until it says false.
func (x index[K, V]) each(f func(K, V) bool) {
	if x.shards == nil {
		return
	}
	for _, shard := range x.shards {
		for k, v := range shard {
			if !f(k, v) {
				return
			}
		}
	}
}

// unlike calls f for all entries of shards that other does not share, in no order, until it says false.
func (x index[K, V]) unlike(other index[K, V], f func(K, V) bool) {
	if x.shards == nil || x.shards == other.shards {
		return
	}
	for i, shard := range x.shards {
		if other.shards != nil && reflect.ValueOf(shard).Pointer() == reflect.ValueOf(other.shards[i]).Pointer() {
			continue
		}
		for k, v := range shard {
			if !f(k, v) {
				return
			}
		}
	}
}

func (x index[K, V]) len() int {
	if x.shards == nil {
		return 0
	}
	n := 0
	for _, shard := range x.shards {
		n += len(shard)
	}
	return n
}

// edit begins a new generation of the index; x itself stays as it is.
func (x index[K, V]) edit() *editor[K, V] { return &editor[K, V]{from: x} }

// editor collects the changes of one delta. Nothing is copied until the first change, and each shard at most once.
type editor[K comparable, V any] struct {
	from  index[K, V]
	to    *[shardCount]map[K]V
	owned [shardCount]bool
	// expect is about how many keys an index that is empty will have, 0 if that is not known: shards need not grow then.
	expect int
}

func (e *editor[K, V]) get(k K) (V, bool) {
	if e.to == nil {
		return e.from.get(k)
	}
	v, ok := e.to[shardOf(k)][k]
	return v, ok
}

func (e *editor[K, V]) own(k K) map[K]V {
	if e.to == nil {
		e.to = new([shardCount]map[K]V)
		if e.from.shards != nil {
			*e.to = *e.from.shards
		}
	}
	i := shardOf(k)
	if !e.owned[i] {
		e.owned[i] = true
		if e.to[i] = maps.Clone(e.to[i]); e.to[i] == nil {
			e.to[i] = make(map[K]V, e.expect/shardCount)
		}
	}
	return e.to[i]
}

func (e *editor[K, V]) put(k K, v V) { e.own(k)[k] = v }

func (e *editor[K, V]) remove(k K) {
	if _, ok := e.get(k); ok {
		delete(e.own(k), k)
	}
}

func (e *editor[K, V]) done() index[K, V] {
	if e.to == nil {
		return e.from
	}
	return index[K, V]{shards: e.to}
}
