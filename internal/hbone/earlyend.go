// SPDX-License-Identifier: Apache-2.0

package hbone

// earlyEndPrice is how many tokens of the budget of resets it costs a client to end its direction before the answer. It has no use for the tunnel then, and no
// proxy does so; but we have a dial to make and a stream to keep, for 11 bytes of the client's. 50 at once and 25 a second are left to those who do it
// by hand. At 200 at once, the p99 of a good client was 2.4 to 4.9 times that beside as many bytes of noise (hbone-attacks, unread-answers); at 50, 0.5 to 1.7 times.
const earlyEndPrice = 4

// earlyEnd charges for END_STREAM on a stream, if that is a request that is not answered. s may be nil.
func (c *Conn) earlyEnd(s *Stream) error {
	if s == nil || s.request == nil || s.request.answered.Load() {
		return nil
	}
	for range earlyEndPrice {
		if !c.in.resets.spend(c.set.Resets) {
			return calm(EventResetBudget, "too many requests that end before the answer")
		}
	}
	return nil
}
