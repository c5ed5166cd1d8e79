// SPDX-License-Identifier: Apache-2.0

package http

import "sync"

// pool is an amount of something that the routes of all namespaces share. A namespace may have no more of it than what is left to the others: half of it if it is the only one, a third if
// another one wants as much, and so on. So nobody takes all of it, however many there are that try.
type pool struct {
	most int64

	mu    sync.Mutex // hold for all below, and for what is taken by portions of it
	taken int64
	of    map[string]int64 // by namespace; those that have something
}

func newPool(most int64) *pool { return &pool{most: most, of: map[string]int64{}} }

// take takes n for a namespace, and says whether there was so much for it. Who has taken something gives it back.
func (p *pool) take(namespace string, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takes(namespace, n)
}

// takes is take for who holds the lock.
func (p *pool) takes(namespace string, n int64) bool {
	if p.of[namespace]+n > p.most-p.taken-n {
		return false
	}
	p.taken += n
	p.of[namespace] += n
	return true
}

func (p *pool) give(namespace string, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gives(namespace, n)
}

func (p *pool) gives(namespace string, n int64) {
	p.taken -= n
	if p.of[namespace] -= n; p.of[namespace] == 0 {
		delete(p.of, namespace)
	}
}

// inUse is how much of it is taken.
func (p *pool) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// portion is what one request has of a pool. It grows as it is needed, and is given back as a whole.
type portion struct {
	pool      *pool
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
