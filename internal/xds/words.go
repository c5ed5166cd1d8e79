// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// maxOwnWords is how many bytes of names one owner's streams may have us keep that stand for nothing we have, and maxWords the same for all who are no node proxies. A gateway that
	// comes back to a world of which it knows nothing says some 10 MB.
	maxOwnWords, maxWords = 64 << 20, 512 << 20
	// wordWeight is what one name takes besides its bytes: its places in maps.
	wordWeight = 64
)

// words are the names that subscribers wrote and that we keep because of that alone: asked for, or said to be held and not there, so that they wait to be told so. What one stream may say is bounded, but
// anybody may have many. They may be used from anywhere.
type words struct {
	own, most int // bytes of one owner, and of all

	mu  sync.Mutex
	all int
	of  map[turnOwner]int
}

func newWords(own, most int) *words { return &words{own: own, most: most, of: map[turnOwner]int{}} }

// take counts bytes in. An error, which the caller is told, says that they may not be kept.
func (w *words) take(of turnOwner, bytes int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.of[of]+bytes > w.own:
		return status.Errorf(codes.ResourceExhausted, "too many names that nothing has, of %s/%s on one node, or of one pod: %d MiB of them are kept at most", of.namespace, of.account, w.own>>20)
	case w.all+bytes > w.most:
		return status.Errorf(codes.ResourceExhausted, "too many names that nothing has, of all who are no node proxies: %d MiB of them are kept at most", w.most>>20)
	}
	w.all += bytes
	w.of[of] += bytes
	return nil
}

// give counts bytes out that were counted in.
func (w *words) give(of turnOwner, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all -= bytes
	if w.of[of] -= bytes; w.of[of] == 0 {
		delete(w.of, of)
	}
}

// weight is what a name that is kept counts.
func weight(name string) int { return len(name) + wordWeight }

// keep has it counted when a subscription keeps more or less names than were counted, unless it is a node proxy's: a node has one or two, and nobody else may run as
// one. It needs sub.mu, and Server.mu for reading.
func (sub *subscriber) keep(s *subscription) error {
	bytes := s.words - s.counted
	switch {
	case sub.gone:
		return errClosing
	case bytes == 0 || sub.standing == ofNode:
		return nil
	case bytes < 0:
		sub.server.words.give(sub.caller.owner(), -bytes)
	default:
		if err := sub.server.words.take(sub.caller.owner(), bytes); err != nil {
			return err
		}
	}
	s.counted = s.words
	sub.words += bytes
	return nil
}

// leave counts out what was counted in. It needs sub.mu; the receiver may not have ended.
func (sub *subscriber) leave() {
	sub.server.words.give(sub.caller.owner(), sub.words)
	sub.words, sub.gone = 0, true
}
