// SPDX-License-Identifier: Apache-2.0

package xds

import "time"

const (
	// walkBurst is how many names the later requests of one stream may have us look at at once, and walkRate how many in a second from then on. A few bytes that say that everything is wanted, or not any
	// more, have us look at all there is, for which 100,000 names take a processor up to 0.1 s: that may be asked five times, and then every five seconds, which is 2 % of one.
	walkBurst, walkRate = 1 << 19, 20_000
)

// walks are the names that a stream's requests had us look at and that are not made up for by time yet.
type walks struct {
	owed float64
	at   time.Time // when that was so
}

// took adds names that were looked at, and says how long nothing more may be asked if so many at once are free.
func (w *walks) took(names, burst int, now time.Time) time.Duration {
	w.owed = max(0, w.owed-walkRate*now.Sub(w.at).Seconds()) + float64(names)
	w.at = now
	return time.Duration(max(0, w.owed-float64(burst)) / walkRate * float64(time.Second))
}

// pause has who asked for too much wait before anything more of it is read, in its receiver, where nobody else waits. It is called by the receiver.
func (sub *subscriber) pause() {
	if sub.rest == 0 {
		return
	}
	sub.server.metrics.delayed.Inc()
	if !sub.delayed {
		sub.delayed = true
		sub.log.Info("subscriber asks for a lot again and again: its requests wait from now on", "wait", sub.rest.Round(time.Millisecond).String())
	}
	select {
	case <-time.After(sub.rest):
	case <-sub.stream.Context().Done():
	}
	sub.rest = 0
}
