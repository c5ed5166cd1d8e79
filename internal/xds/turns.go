// SPDX-License-Identifier: Apache-2.0

package xds

const (
	// largeNames is from how many names on a response is large: about 1.3 MB of workloads.
	largeNames = 4096
	// maxLarge is how many large responses may be unacknowledged at a time; more wait for their turn. A restarted
	// controller owes everything to everybody: 16 × 30 MB for 100 000 workloads, where 1000 × 30 MB would be its end.
	maxLarge = 16
)

// order in which types are told when several are due: whom to believe first, policies before the workloads that name them, and addresses
// before the gateways that serve them.
var order = []string{bundleURL, authorizationURL, addressURL, gatewayURL}

// send sends the responses that are due, one of each type at most. A large one waits for its turn; others pass it.
func (sub *subscriber) send() error {
	sub.queued = false
	for _, url := range order {
		if sub.size(url) >= sub.server.largeFrom {
			sub.queued = sub.turn == "" // with a token held for another type, its acknowledgement comes first
			continue
		}
		if err := sub.tell(url); err != nil {
			return err
		}
	}
	return nil
}

// takeTurn sends the large response that waited for a token, which is held now.
func (sub *subscriber) takeTurn() error {
	sub.queued = false
	for _, url := range order {
		if sub.size(url) >= sub.server.largeFrom {
			sub.turn = url
			if err := sub.tell(url); err != nil {
				return err
			}
			return sub.send() // another large one queues
		}
	}
	<-sub.server.large // what was large was changed back or dropped meanwhile
	return sub.send()
}

// endTurn gives the token back, if one is held.
func (sub *subscriber) endTurn() {
	if sub.turn != "" {
		sub.turn = ""
		<-sub.server.large
	}
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
		return len(s.pending)
	}
	return 0
}
