// SPDX-License-Identifier: Apache-2.0

package controllers

import "sync"

// reading weighs what is being read of a cluster anew, by path: the pages of a list, or what a watch begins with. It is held in memory until it is whole, beside what
// is kept from before.
type reading struct {
	mu    sync.Mutex
	most  int64 // of all kinds together
	total int64
	of    map[string]int64
}

// add weighs what came; false if that is too much, and then what was read of the kind is given up.
func (r *reading) add(path string, weight int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]int64{}
	}
	r.of[path] += weight
	r.total += weight
	if r.total <= r.most {
		return true
	}
	r.total -= r.of[path]
	delete(r.of, path)
	return false
}

// done notes that nothing is held any more of what was read of a kind: that is in use by now, or was given up.
func (r *reading) done(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total -= r.of[path]
	delete(r.of, path)
}
