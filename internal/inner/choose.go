// SPDX-License-Identifier: Apache-2.0

package inner

// option is one place where a new stream could go: a pod that sessions reach, or a session that is still being opened.
type option struct {
	load int     // streams of ours that it carries or will carry
	late float64 // streams that were given to it lately, see recency
	// share is which part of what others carry it may have; 0: all of it.
	share float64
	room  bool   // it takes another one
	out   bool   // it failed lately
	turn  uint64 // when it was last chosen; less is longer ago
}

// verdict is what to do for a new stream.
type verdict uint8

const (
	// use: take the option that was named.
	use verdict = iota
	// open: make a session that reaches another pod.
	open
	// alone: there is no room, and no more may be opened: make a session for this stream only.
	alone
	// nothing: what there is was tried, and there is nothing else to be had.
	nothing
)

// situation is what choose decides by, besides the options.
type situation struct {
	held, want int  // pods that are reached, or will be, and that should be
	grow       bool // another pod is sought although there is a place
	mayOpen    bool // there is room for another session
	excluded   bool // pods were left out of the options because this stream has tried them
}

// choose says where a new stream goes.
//
// Pods that failed lately are passed over as long as there is another one, or one could be had: so they never leave a service without any.
func choose(options []option, s situation) (int, verdict) {
	if s.grow && s.held < s.want && s.mayOpen {
		return -1, open
	}
	best, spare := -1, -1 // spare failed lately
	full := false
	for i, o := range options {
		switch {
		case !o.room:
			full = true
		case o.out:
			if spare < 0 || less(o, options[spare]) {
				spare = i
			}
		case best < 0 || less(o, options[best]):
			best = i
		}
	}
	switch {
	case best >= 0:
		return best, use
	case full && s.mayOpen:
		return -1, open // another session to a pod that we know, if there is no other one
	case spare >= 0:
		return spare, use
	case s.held < s.want && s.mayOpen:
		return -1, open
	case s.excluded && !full:
		return -1, nothing
	case s.mayOpen:
		return -1, open
	default:
		return -1, alone
	}
}

// less says whether a is the better place: it carries less of its share and was given less lately or, if that is the same, its last turn was earlier.
func less(a, b option) bool {
	if x, y := a.burden(), b.burden(); x != y {
		return x < y
	}
	return a.turn < b.turn
}

// burden is what an option carries and was given lately, as if it had its whole share.
func (o option) burden() float64 {
	burden := float64(o.load) + o.late
	if o.share > 0 {
		burden /= o.share
	}
	return burden
}

// coverage is what is known of how many pods there are.
type coverage struct {
	// ready is how many the gateway said were ready, when it was last asked; 0 if it did not say.
	ready int
	// all says that it had no other one to give than those that we reach.
	all bool
	// news says that the number has changed since, as far as discovery knows.
	news bool
}

// want is how many pods should be reached, with as many as held and opening now.
func (c coverage) want(held, opening, most int) int {
	reached := held + opening
	switch {
	case reached == 0:
		return 1
	case c.news && opening == 0:
		return reached + 1 // one question answers how many there are now
	case c.all:
		return reached
	case c.ready > 0:
		return min(c.ready, most)
	case held == 0:
		return reached // those who come now wait for what the first one learns
	default:
		return most // until the gateway has no other one to give
	}
}
