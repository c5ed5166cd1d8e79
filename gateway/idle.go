// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"sync"
)

// leaving is which part of all connections, as one in so much and one more, may be on its way out while others have their places already: a peer that does not answer takes its time, and what
// all cost together stays bounded.
const leaving = 16

// idlers are the outer connections that carry nothing that was admitted. When there is no place for one more, one of them gives way: first those that never carried anything, as
// those of a peer that may do nothing, then the one that carries nothing for longest. A client that is there at all has then always a place, and one that is not needed keeps none.
type idlers struct {
	mu   sync.Mutex // hold for all below, and for the fields idle and running of outer
	idle [2]list.List
}

// Which of the lists a connection is in: those that never carried anything come before all others.
const (
	idleFromTheFirst = iota
	idleAgain
)

// add counts a connection in, which carries nothing yet. remove ends that.
func (i *idlers) add(o *outer) (remove func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	o.idle = i.idle[idleFromTheFirst].PushBack(o)
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.leave(o)
		o.running = -1 // streams may end later than their connection
	}
}

// carry says that a connection carries one more stream, until done.
func (i *idlers) carry(o *outer) (done func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if o.running < 0 {
		return func() {}
	}
	i.leave(o)
	o.running++
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if o.running < 0 {
			return
		}
		if o.running--; o.running == 0 {
			o.idle = i.idle[idleAgain].PushBack(o)
		}
	}
}

// leave takes a connection from its list. It needs mu.
func (i *idlers) leave(o *outer) {
	if o.idle != nil {
		// It is in one of them, and the other one does not mind.
		i.idle[idleFromTheFirst].Remove(o.idle)
		i.idle[idleAgain].Remove(o.idle)
		o.idle = nil
	}
}

// giveWay drains one that is idle, if there is one. A stream that its peer opens meanwhile is carried to its end.
func (i *idlers) giveWay() bool {
	i.mu.Lock()
	var o *outer
	for n := range i.idle {
		if first := i.idle[n].Front(); first != nil {
			o = first.Value.(*outer)
			i.leave(o)
			break
		}
	}
	i.mu.Unlock()
	if o == nil {
		return false
	}
	o.conn.Drain()
	return true
}
