// SPDX-License-Identifier: Apache-2.0

package hbone

import "time"

// Settings tunes one connection. The zero value of a field means its default, so Settings{} is a good start; DefaultSettings shows them all.
type Settings struct {
	// StreamWindow is how far the peer may write ahead of our reads on one stream, in bytes.
	// A path is kept full by 4/3 of what is under way on it, since a quarter may have been taken and not yet been announced: window >= 4/3 * rate/8 * round trip.
	// So 4 MiB keep 10 Gbit/s full at 2.5 ms (4/3 * 10e9/8 * 0.0025 = 4.17e6 <= 4.19e6), and 1 Gbit/s at 25 ms; 1 Gbit/s at 100 ms wants
	// 4/3 * 1e9/8 * 0.1 = 16.7e6 <= 16 MiB = 16.8e6, so set 16 MiB there and ConnWindow to four times that. RFC 9113 §6.9.
	StreamWindow uint32
	// ConnWindow is the same for all streams of the connection together, in bytes. At 16 MiB, four times StreamWindow, one stream
	// whose reader stalls cannot stop its neighbours. It also bounds the received bytes held in memory for the connection.
	ConnWindow uint32
	// MaxFrameSize is the largest DATA frame that we accept, in bytes, 16384 to 16777215. 1 MiB is what ztunnel uses. A frame needs no memory of
	// its size: its bytes go to the stream as they come.
	MaxFrameSize uint32
	// WriteFrameSize is the largest DATA frame, header included, that we send if the peer takes it, in bytes. 64 KiB are four full TLS records; larger frames
	// save nothing and delay the neighbours' turn.
	WriteFrameSize int
	// WriteQueue is how many bytes of copied frames may wait for the network, per connection. 128 KiB are written while the next 128 KiB gather.
	WriteQueue int
	// MaxStreams bounds the streams that run at once on one connection. A server announces it (200 by default, as ztunnel's does);
	// a client opens no more than this and no more than its peer allows (100).
	MaxStreams uint32
	// MaxHeaderBytes bounds one header list, in decoded bytes as RFC 9113 §6.5.2 counts them (name + value + 32 for each field). 16 KiB.
	MaxHeaderBytes uint32
	// PingInterval is how long after the last answer the next PING is sent. 10 s. Negative: no PINGs.
	PingInterval time.Duration
	// PingTimeout is how long the peer may be silent after a PING before the connection is given up. 20 s.
	PingTimeout time.Duration
	// ProbeAfter is how long a client's Open waits before it asks a peer, from whom nothing at all was heard since, by a PING whether it is there, if half of its time is not over before. 1 s.
	ProbeAfter time.Duration
	// ProbeTimeout is how long Open then waits for any frame before it gives up with ErrSilent. 3 s. The connection and its running streams are left
	// to PingTimeout: to open somewhere else costs little, to cut a stream because of a short outage costs much.
	ProbeTimeout time.Duration
	// PrefaceTimeout is how long a peer may take for its first frame, counted from NewServer or NewClient. 10 s.
	PrefaceTimeout time.Duration
	// FlushTimeout is how long Close may take to send what is queued, GOAWAY included, and after that to let the peer close first. 1 s.
	FlushTimeout time.Duration
	// CloseTimeout is how long a stream that was closed here waits for the peer's END_STREAM before it is reset, TCP's FIN_WAIT_2. 10 s.
	CloseTimeout time.Duration
	// IdleTimeout is how long a server keeps a connection without streams before it drains it. 10 min, twice what a pool keeps an idle one,
	// so that it is usually the client who lets go. Negative: for ever. A client connection ignores it: its pool decides.
	IdleTimeout time.Duration
	// Resets budgets streams that the peer makes us drop before they were answered: opened and reset at once, refused, or malformed; a request that the client ends
	// before the answer counts as four. Rapid reset (CVE-2023-44487) and its mirror, where the server is led to reset, end here. Ordinary resets of answered streams
	// do not count.
	Resets Budget
	// Control budgets frames that cost us work and move no bytes: PING, SETTINGS, PRIORITY, RST_STREAM, unknown types, empty DATA,
	// interim answers, frames on closed streams. Each 16 KiB of DATA received earns one more.
	Control Budget
	// Updates budgets WINDOW_UPDATE frames. Each 256 bytes of DATA sent earn one more, so a peer with small windows is not hurt.
	Updates Budget
	// Observe, if set, is told of events worth counting. It is called by timers and by whoever reads the connection, a Read or an Accept of the user's among them: it must not
	// block, take a lock that is held during such calls, or call the Conn.
	Observe func(Event)

	// anyMethod hands requests of every method to Accept, not only CONNECT. It exists for one test: h2spec speaks GET and POST, and what it checks
	// (frames, states, windows, header lists) is the same code for all methods. Never set elsewhere.
	anyMethod bool
}

// Budget is a token bucket: Burst events at once, PerSecond in the long run.
type Budget struct {
	Burst     int
	PerSecond int
}

// Event is something that an operator may want to count.
type Event string

// The events.
const (
	// EventBadRequest: a CONNECT was answered 400 (or 431) without reaching Accept: other method, bad authority, header list too large.
	EventBadRequest Event = "bad_request"
	// EventRefusedStream: a stream was refused because of MaxStreams or a drain.
	EventRefusedStream Event = "refused_stream"
	// EventStreamProtocol: a peer broke the rules on one stream, which was reset.
	EventStreamProtocol Event = "stream_protocol_error"
	// EventConnProtocol: a peer broke the rules of the connection, which was ended.
	EventConnProtocol Event = "connection_protocol_error"
	// EventResetBudget, EventControlBudget, EventUpdateBudget: a budget was used up and the connection ended.
	EventResetBudget   Event = "reset_budget"
	EventControlBudget Event = "control_budget"
	EventUpdateBudget  Event = "update_budget"
	// EventHeaderLimit: a header block was larger than is read at all, and the connection ended.
	EventHeaderLimit Event = "header_limit"
	// EventUnreadAnswers: a peer caused answers and did not read them, and the connection ended.
	EventUnreadAnswers Event = "unread_answers"
	// EventSilent: a peer did not answer PING, or did not send its first frame in time.
	EventSilent Event = "silent_peer"
	// EventIdle: a server drained a connection without streams.
	EventIdle Event = "idle"
)

const (
	defaultServerStreams = 200
	defaultClientStreams = 100

	// minFrameSize and maxFrameSize bound SETTINGS_MAX_FRAME_SIZE, in bytes (RFC 9113 §6.5.2).
	minFrameSize = 1 << 14
	maxFrameSize = 1<<24 - 1
	// initialWindow is every window before anyone said otherwise, in bytes (RFC 9113 §6.9.2).
	initialWindow = 65535
	// maxWindow is the largest window, in bytes (RFC 9113 §6.9.1).
	maxWindow = 1<<31 - 1
	// maxUnreadAnswers bounds the bytes of answers (PING and SETTINGS acknowledgements, resets) that a peer may leave unread: about 3800 PINGs. Answers to
	// requests may be as many as streams, for that many a peer may ask for before it reads one.
	maxUnreadAnswers = 64 << 10
	// maxControlQueue bounds the write queue for those who open streams: beyond it Open fails instead of queueing, in bytes.
	maxControlQueue = 1 << 20
	// maxGlut is how many bytes beyond WriteQueue may wait for a peer that sends but does not read: what Open may queue, twice.
	maxGlut = 2 * maxControlQueue
)

// DefaultSettings gives the defaults of a server; a client's differ in MaxStreams (100) only.
func DefaultSettings() Settings { return Settings{}.withDefaults(false) }

func (s Settings) withDefaults(client bool) Settings {
	setDefault(&s.StreamWindow, 4<<20)
	setDefault(&s.ConnWindow, 16<<20)
	setDefault(&s.MaxFrameSize, 1<<20)
	setDefault(&s.WriteFrameSize, 64<<10)
	setDefault(&s.WriteQueue, 128<<10)
	if client {
		setDefault(&s.MaxStreams, defaultClientStreams)
	} else {
		setDefault(&s.MaxStreams, defaultServerStreams)
	}
	setDefault(&s.MaxHeaderBytes, 16<<10)
	setDefault(&s.PingInterval, 10*time.Second)
	setDefault(&s.PingTimeout, 20*time.Second)
	setDefault(&s.ProbeAfter, time.Second)
	setDefault(&s.ProbeTimeout, 3*time.Second)
	setDefault(&s.PrefaceTimeout, 10*time.Second)
	setDefault(&s.FlushTimeout, time.Second)
	setDefault(&s.CloseTimeout, 10*time.Second)
	setDefault(&s.IdleTimeout, 10*time.Minute)
	// A client of 100 streams that loses all of them at once, twice over, stays within; 100 a second is more than any real one needs.
	setDefault(&s.Resets, Budget{Burst: 200, PerSecond: 100})
	setDefault(&s.Control, Budget{Burst: 2000, PerSecond: 200})
	setDefault(&s.Updates, Budget{Burst: 2000, PerSecond: 500})
	if s.Observe == nil {
		s.Observe = func(Event) {}
	}
	s.StreamWindow = min(s.StreamWindow, maxWindow)
	s.ConnWindow = min(max(s.ConnWindow, initialWindow), maxWindow)
	s.MaxFrameSize = min(max(s.MaxFrameSize, minFrameSize), maxFrameSize)
	s.WriteFrameSize = min(max(s.WriteFrameSize, 2*frameHeaderLen), maxFrameSize)
	s.WriteQueue = max(s.WriteQueue, 2*frameHeaderLen)
	return s
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
