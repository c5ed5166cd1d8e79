// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"sync"
	"time"
)

// talking is how lately a client has sent that keeps its place whoever else wants it. Who sends in others' names has to send for each of them in that time.
const talking = 5 * time.Second

// crowd is the clients of ports for UDP in the order in which they give way when there is no room. First those that have not sent again after they were answered, for
// who sends in others' names never is answered: the oldest first, which most likely has its answer. Then, as anybody can send twice and guess that an answer came
// between, those that have: the one that was silent for longest first, and none that talks.
type crowd struct {
	now func() time.Time

	mu     sync.Mutex
	fresh  list.List // of *udpClient, the oldest in front
	proven list.List // of *udpClient, the one that was silent for longest in front
}

func (c *crowd) add(of *udpClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of.place = c.fresh.PushBack(of)
}

// heard notes that a client has sent again after it was answered.
func (c *crowd) heard(of *udpClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if of.place == nil {
		return // it is forgotten
	}
	of.heard = c.now()
	if of.proven.Load() {
		c.proven.MoveToBack(of.place)
		return
	}
	of.proven.Store(true)
	c.fresh.Remove(of.place)
	of.place = c.proven.PushBack(of)
}

func (c *crowd) remove(of *udpClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if of.place == nil {
		return
	}
	c.fresh.Remove(of.place) // each does nothing for a place in the other one
	c.proven.Remove(of.place)
	of.place = nil
}

// makeRoom forgets the one that gives way first, and says whether there was one.
func (c *crowd) makeRoom() bool {
	of := c.first()
	if of == nil {
		return false
	}
	of.st.end(errCrowded)
	of.port.forget(of)
	return true
}

func (c *crowd) first() *udpClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	if front := c.fresh.Front(); front != nil {
		return front.Value.(*udpClient)
	}
	if front := c.proven.Front(); front != nil {
		if of := front.Value.(*udpClient); c.now().Sub(of.heard) >= talking {
			return of
		}
	}
	return nil
}
