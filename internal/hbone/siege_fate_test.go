// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// fate is how a connection ended: the code that the peer was told, and what was observed of it last.
type fate struct {
	code  http2.ErrCode
	event Event
}

func calmFor(e Event) fate { return fate{http2.ErrCodeEnhanceYourCalm, e} }

func breachOf(c http2.ErrCode) fate { return fate{c, EventConnProtocol} }

// left is the fate of a connection that the peer gave up itself, or that was closed here at the end of the siege.
var left = fate{}

// lastWord is the last event of a connection that ends one; what happens on a stream does not.
type lastWord struct{ said atomic.Value }

func (w *lastWord) observe(e Event) {
	switch e {
	case EventBadRequest, EventRefusedStream, EventStreamProtocol:
	default:
		w.said.Store(e)
	}
}

func (w *lastWord) event() Event {
	e, _ := w.said.Load().(Event)
	return e
}

// fateOf judges the error and the last event of a connection.
func fateOf(err error, last Event) fate {
	var ce *ConnError
	switch {
	case !errors.As(err, &ce):
		return fate{event: Event(fmt.Sprintf("no ConnError but %T", err))}
	case ce.Timeout():
		return fate{http2.ErrCode(ce.Code), EventSilent}
	case ce.Remote, ce.Reason == "frame too short": // the latter is a frame that the end of the siege cut in two
		return left
	case ce.Code == uint32(http2.ErrCodeNo) && last != EventIdle: // closed or drained
		return left
	}
	var budget *BudgetError
	if over := ce.Code == uint32(http2.ErrCodeEnhanceYourCalm); over != errors.As(err, &budget) || over && budget.Event != last {
		return fate{event: Event(fmt.Sprintf("%s, but the error says %v", last, ce.Err))}
	}
	return fate{http2.ErrCode(ce.Code), last}
}

// reasonOf says it in words, for whoever has to find out.
func reasonOf(err error) string {
	var ce *ConnError
	if errors.As(err, &ce) && ce.Remote && ce.Err != nil && !ce.Timeout() {
		return "transport" // errors of sockets have addresses in them
	}
	return fmt.Sprint(err)
}

// tally counts how connections ended. It is safe to use from everywhere.
type tally struct {
	mu      sync.Mutex
	fates   map[fate]int
	reasons map[string]int
}

func newTally() *tally { return &tally{fates: map[fate]int{}, reasons: map[string]int{}} }

func (o *tally) note(err error, last Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fates[fateOf(err, last)]++
	o.reasons[reasonOf(err)]++
}

// said tells how many connections ended for which reason.
func (o *tally) said() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprint(o.reasons)
}

// met says whether one of the fates, if there is any, was met.
func (o *tally) met(ends []fate) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(ends) == 0 || slices.ContainsFunc(ends, func(f fate) bool { return o.fates[f] > 0 })
}

// unexpected lists the others.
func (o *tally) unexpected(ends []fate) (wrong []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for f, n := range o.fates {
		if f != left && !slices.Contains(ends, f) {
			wrong = append(wrong, fmt.Sprintf("%d connections ended with %v and event %q", n, f.code, f.event))
		}
	}
	return wrong
}
