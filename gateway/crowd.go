// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"sync"
)

// crowd is the clients of ports for UDP that have not sent again after they were answered. Who sends in others' names never does, so that these
// give way when there is no room: the oldest first, which most likely has its answer.
type crowd struct {
	mu  sync.Mutex
	all list.List // of *udpClient, the oldest in front
}

func (c *crowd) add(of *udpClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of.place = c.all.PushBack(of)
}

// prove takes out a client that has sent again.
func (c *crowd) prove(of *udpClient) {
	of.proven.Store(true)
	c.remove(of)
}

func (c *crowd) remove(of *udpClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if of.place != nil {
		c.all.Remove(of.place)
		of.place = nil
	}
}

// makeRoom forgets the oldest, and says whether there was one.
func (c *crowd) makeRoom() bool {
	c.mu.Lock()
	front := c.all.Front()
	c.mu.Unlock()
	if front == nil {
		return false
	}
	of := front.Value.(*udpClient)
	of.st.end(errCrowded)
	of.port.forget(of)
	return true
}
