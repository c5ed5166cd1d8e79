// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// wrongGrace is how long after control planes have told of a change of a service's address connections may still go by the old one: an application that dials an address in that moment means neither
// of its owners more than the other.
const wrongGrace = 3 * time.Second

// truth is what ew-wrong knows of who is who, to judge what proxies made of it.
type truth struct {
	mu     sync.Mutex
	pods   []int // by number: the index of the service that it is a pod of
	owners map[netip.Addr][]ownership
}

// ownership is that an address is a service's from some time on. settled is when all control planes had told so; zero: they have not yet.
type ownership struct {
	service       int
	from, settled time.Time
}

// born notes a pod of a service, and gives its number.
func (t *truth) born(service int) (number uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods = append(t.pods, service)
	return uint32(len(t.pods) - 1)
}

// own notes that an address is a service's from now on.
func (t *truth) own(at netip.Addr, service int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owners == nil {
		t.owners = map[netip.Addr][]ownership{}
	}
	t.owners[at] = append(t.owners[at], ownership{service: service, from: time.Now()})
}

// settle notes that all control planes have told who owns what.
func (t *truth) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, all := range t.owners {
		if last := &all[len(all)-1]; last.settled.IsZero() {
			last.settled = time.Now()
		}
	}
}

// served gives the service whose pod has a number; -1 if there never was one.
func (t *truth) served(number uint32) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(number) >= len(t.pods) {
		return -1
	}
	return t.pods[number]
}

// meant says whether a service may be the one that a connection to an address was for, which was dialled at a time and stood at another.
func (t *truth) meant(at netip.Addr, service int, dialled, connected time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	owners := t.owners[at]
	for i, o := range slices.Backward(owners) {
		until := connected // it owns it still
		if i+1 < len(owners) && !owners[i+1].settled.IsZero() {
			until = owners[i+1].settled.Add(wrongGrace)
		}
		if o.service == service && !o.from.After(connected) && !until.Before(dialled) {
			return true
		}
	}
	return false
}
