// SPDX-License-Identifier: Apache-2.0

package http

import "sync"

// pool is an amount of something that is shared, by the routes of all namespaces or by all clients. Nobody may have more of it than what is left to the others: half of it who is the only one, a third if
// another one wants as much, and so on. So nobody takes all of it, however many there are that try.
type pool[K comparable] struct {
	mu   sync.Mutex // hold for all below, and for what is taken by portions of it
	most int64
	// reserve is the last part of it, of which only those get something who have no more than few then; 0: there is none.
	reserve, few int64

	taken int64
	of    map[K]int64 // those that have something
}

func newPool[K comparable](most int64) *pool[K] { return &pool[K]{most: most, of: map[K]int64{}} }

// take takes n for somebody, and says whether there was so much left. Who has taken something gives it back.
func (p *pool[K]) take(who K, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takes(who, n)
}

// takes is take for who holds the lock.
func (p *pool[K]) takes(who K, n int64) bool {
	if p.of[who]+n > p.most-p.taken-n {
		return false
	}
	if p.taken+n > p.most-p.reserve && p.of[who]+n > p.few {
		return false
	}
	p.taken += n
	p.of[who] += n
	return true
}

func (p *pool[K]) give(who K, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gives(who, n)
}

func (p *pool[K]) gives(who K, n int64) {
	p.taken -= n
	if p.of[who] -= n; p.of[who] == 0 {
		delete(p.of, who)
	}
}

// inUse is how much of it is taken.
func (p *pool[K]) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// portion is what one request has of a pool. It grows as it is needed, and is given back as a whole.
type portion struct {
	pool      *pool[string]
	namespace string
	size      int64
	over      bool
}

// grow takes n more, and says whether there was so much. After giveBack there is nothing.
func (p *portion) grow(n int64) bool {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	if p.over || !p.pool.takes(p.namespace, n) {
		return false
	}
	p.size += n
	return true
}

// giveBack gives all of it back, now or before. A nil portion has nothing.
func (p *portion) giveBack() {
	if p == nil {
		return
	}
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	if !p.over {
		p.over = true
		p.pool.gives(p.namespace, p.size)
	}
}
