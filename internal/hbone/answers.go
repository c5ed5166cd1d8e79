// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"time"
)

// answerPoll is how often Answers looks: it is asked when something is wrong, and a hundredth of a second more does not matter then.
const answerPoll = 10 * time.Millisecond

// Answers sends a PING and says whether anything was heard of the peer before ctx ended, an answer or any other frame.
func (c *Conn) Answers(ctx context.Context) bool {
	mark := c.ping.signs.Load()
	c.probe()
	look := time.NewTicker(answerPoll)
	defer look.Stop()
	for {
		select {
		case <-c.done:
			return false
		case <-ctx.Done():
			return c.ping.signs.Load() != mark
		case <-look.C:
			if c.ping.signs.Load() != mark {
				return true
			}
		}
	}
}
