// SPDX-License-Identifier: Apache-2.0

package xds

import "time"

// order in which types are told when several are due: whom to believe first, policies before the workloads that name them, and addresses
// before the gateways that serve them.
var order = []string{bundleURL, authorizationURL, addressURL, gatewayURL}

// granted is closed when the turn that is waited for is there; nil if none is waited for.
func (sub *subscriber) granted() <-chan struct{} {
	if sub.turn == nil || sub.turnFor != "" {
		return nil
	}
	return sub.turn.granted
}

// send sends the responses that are due, one of each type at most. A large one waits for its turn; others pass it.
func (sub *subscriber) send() error {
	large := sub.find()
	for _, url := range sub.small {
		if err := sub.tell(url); err != nil {
			return err
		}
	}
	switch {
	case large && sub.turn == nil: // with a turn held for another type, its acknowledgement comes first
		sub.turn = sub.server.large.ask(sub.caller.owner())
		sub.inTurn.Store(true)
	case !large && sub.turnFor == "": // what was large was changed back or dropped meanwhile
		sub.endTurn()
	}
	return nil
}

// find notes the types of which small responses are due, and says whether large ones are, too.
func (sub *subscriber) find() (large bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.small = sub.small[:0]
	for _, url := range order {
		switch s := sub.types[url]; {
		case s == nil || !s.due():
		case s.owing() >= sub.server.largeFrom:
			large = true
		default:
			sub.small = append(sub.small, url)
		}
	}
	return large
}

// takeTurn sends the large response that waited for its turn, which has come.
func (sub *subscriber) takeTurn() error {
	for _, url := range order {
		if sub.size(url) >= sub.server.largeFrom {
			sub.turnFor, sub.limit = url, time.After(sub.server.options.TurnTimeout/looks)
			if err := sub.tell(url); err != nil {
				return err
			}
			break
		}
	}
	return sub.send() // another large one waits for the acknowledgement; without any, the turn is given back
}

// endTurn gives the turn back, if one is held or waited for.
func (sub *subscriber) endTurn() {
	if sub.turn != nil {
		sub.server.large.end(sub.turn)
		sub.turn, sub.turnFor, sub.limit = nil, "", nil
		sub.inTurn.Store(false)
	}
}

// looks is how often within TurnTimeout it is looked at how much of a large response is out.
const looks = 4

// outstays says, at each look, whether the turn must go to somebody else.
func (sub *subscriber) outstays() bool {
	o := &sub.server.options
	moving := sub.pace.keeps(sub.written(), o.TurnTimeout/looks, o.AckTimeout)
	if time.Since(sub.pace.began) >= o.TurnTimeout && sub.server.large.wanted(sub.turn, moving) {
		return true
	}
	sub.limit = time.After(o.TurnTimeout / looks)
	return false
}

// written is how many bytes the stream's connection took; 0 if nobody counts, when nothing ever seems to be taken.
func (sub *subscriber) written() int64 {
	if sub.connection == nil {
		return 0
	}
	return sub.connection.written.Load()
}

// acknowledged says that nothing of a type is in flight.
func (sub *subscriber) acknowledged(url string) bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return sub.types[url].nonce == ""
}

// size is how many names the response of a type that is due would tell.
func (sub *subscriber) size(url string) int {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if s := sub.types[url]; s != nil && s.due() {
		return s.owing()
	}
	return 0
}
