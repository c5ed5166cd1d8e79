// SPDX-License-Identifier: Apache-2.0

package hbone

// Draining says that a client's connection opens no more streams, ever: it has ended, or one of its sides has said that it will. One that is merely full is not.
func (c *Conn) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil || c.left
}
