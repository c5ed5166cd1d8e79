// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// quota is how many bytes that a subscriber has not acknowledged the transport takes without waiting for it: half of what gRPC keeps of a call before it waits.
const quota = 32 << 10

// fits says whether the response that is in flight last, with all before it, is so small that handing it over cannot wait. What was acknowledged was read, so it is on nobody's way.
func (sub *subscriber) fits() bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	unread := int64(0)
	for _, s := range sub.types {
		unread += s.unread
	}
	return unread <= quota && sub.turn == nil
}

// hand hands over a response that fits.
func (sub *subscriber) hand(_ string, response *response) error {
	return sub.stream.SendMsg(response)
}

// deliver hands a response to the transport, which takes it as fast as the subscriber reads. One that does not read is treated as one that does not
// acknowledge: it holds memory, and maybe a turn that others wait for. The sender that is left behind ends with the stream, which is when serve returns.
func (sub *subscriber) deliver(url string, response *response) error {
	sent := make(chan error, 1)
	sub.server.receivers.Go(func() { sent <- sub.stream.SendMsg(response) })
	limit := time.NewTimer(sub.server.options.AckTimeout)
	defer limit.Stop()
	for {
		select {
		case err := <-sent:
			return err
		case <-sub.server.closed:
			return errClosing
		case <-sub.limit:
			if sub.outstays() {
				return sub.abandon(sub.turnFor)
			}
		case <-limit.C:
			return sub.abandon(url)
		}
	}
}

// abandon gives the error that ends the stream of a subscriber that does not keep up.
func (sub *subscriber) abandon(url string) error {
	if sub.turnFor != "" {
		sub.server.large.doubt(sub.turn.of)
	}
	sub.server.metrics.abandoned.WithLabelValues(short(url)).Inc()
	sub.log.Info("subscriber does not acknowledge", "type", short(url))
	return status.Errorf(codes.DeadlineExceeded, "no acknowledgement of %s within %s, or within %s while others wait",
		short(url), sub.server.options.AckTimeout, sub.server.options.TurnTimeout)
}
