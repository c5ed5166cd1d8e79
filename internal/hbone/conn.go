// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxRemembered bounds the ids of reset streams that are remembered, whatever MaxStreams is: 4 KiB.
const maxRemembered = 1024

// Conn is one connection with many streams, in the role of a client (NewClient) or a server (NewServer).
type Conn struct {
	nc     net.Conn
	under  *Transport // below nc, if it can be written to without waiting; else nil
	record int        // how many bytes of a write to nc travel in one record, see recordOf
	set    Settings
	client bool

	running  atomic.Int32  // sides that have not ended: reading, writing
	done     chan struct{} // closed when none is left
	readDone chan struct{} // closed when the reading side has ended

	seat  seat
	guard waiter
	in    input // belongs to the holder of the seat

	inflow connInflow
	sent   atomic.Int64 // DATA bytes queued so far
	// crowd says that several streams were served by one read of the transport. Their answers are then sent in one write, after all of them have had a
	// chance; otherwise each would be a record and a system call of its own.
	crowd atomic.Bool
	// glut says that more waits to be sent than an honest peer leaves unread. Who reads frames then ends the connection, for only they bring more.
	glut atomic.Bool

	// mu guards the table of streams. Locks nest in the order mu, amu, Stream.mu, seat.mu, and mu, wmu; seat.mu and wmu do not nest in each other.
	mu         sync.Mutex
	streams    map[uint32]*Stream
	opened     uint32 // client: streams opened so far; server: highest id that the peer opened
	peerMax    uint32 // client: the peer's MAX_CONCURRENT_STREAMS
	err        *ConnError
	left       bool // client: opens no more, because of Drain, GOAWAY, or used-up ids
	drain      drainStage
	drainLimit *time.Timer // server: ends the first stage of a drain
	judging    bool        // server: opened may be on its way into streams
	lastTaken  uint32      // server, from drainSaid on: the last id that is served
	afterDone  []func()
	ping       keepalive
	patience   patience
	idle       *time.Timer // server: looks for a time without streams
	quiet      time.Time   // when the last stream ended, if none runs

	// amu guards what waits for Accept.
	amu       sync.Mutex
	acceptors sync.Cond
	accepting int        // who wait on acceptors
	requests  []*Request // not yet taken

	// wmu guards the queue to the transport and everything about sending.
	wmu        sync.Mutex
	sending    bool // somebody has the turn to write to nc
	flushing   bool // it is the goroutine that may wait for the network
	out        *outBuffer
	tail       lastData
	unread     int // bytes in out of what the peer made us answer
	replies    int // answers to requests in out
	framer     *http2.Framer
	encoder    *hpack.Encoder
	blockOut   blockBuffer
	waiting    []*Stream
	grants     bool  // a stream of waiting has the turn
	outflow    int64 // what the peer lets us send on all streams together
	peerWindow int64 // the peer's initial stream window
	writeFrame int   // largest DATA frame that we send
	peerHeader uint32
	forgotten  resetRing
	strays     int64 // how many bytes more may come on streams that were reset here
	haste      haste
	closing    bool // nothing is queued any more, the turn ends once the rest is sent
	broken     bool // nothing more can be sent
}

func newConn(nc net.Conn, s Settings, client bool) *Conn {
	c := &Conn{
		nc:         nc,
		under:      transportOf(nc),
		record:     recordOf(nc),
		set:        s.withDefaults(client),
		client:     client,
		done:       make(chan struct{}),
		readDone:   make(chan struct{}),
		streams:    make(map[uint32]*Stream),
		peerMax:    defaultClientStreams, // until the peer says otherwise, as ztunnel guesses
		outflow:    initialWindow,
		peerWindow: initialWindow,
		peerHeader: maxWindow,
	}
	if c.under != nil {
		// A Conn keeps no more than one write of its own, the queue and a frame. Twice as much leaves room for records, and for what TLS says by itself, which
		// has a bound of its own, maxAside.
		c.under.limit = 2 * int64(c.set.WriteQueue+maxGlut+c.set.WriteFrameSize)
		c.under.onKept = c.flushKept
	}
	c.setWriteFrame(minFrameSize)
	c.forgotten.size = int(min(2*max(uint64(c.set.MaxStreams), 16), maxRemembered))
	c.acceptors.L = &c.amu
	c.framer = http2.NewFramer(frameSink{c}, nil)
	c.encoder = hpack.NewEncoder(&c.blockOut)
	c.inflow.avail.Store(int64(c.set.ConnWindow))

	c.in.buf = make([]byte, readAhead)
	c.in.greeted = client
	c.in.decoder = newHeaderDecoder(c.set.MaxHeaderBytes)
	c.in.newFramer(c.set.MaxFrameSize)
	return c
}

// start queues our first frames and has them sent, and begins to read.
func (c *Conn) start() {
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: c.set.StreamWindow},
		{ID: http2.SettingMaxFrameSize, Val: c.set.MaxFrameSize},
		{ID: http2.SettingMaxHeaderListSize, Val: c.set.MaxHeaderBytes},
	}
	if c.client {
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.set.MaxStreams})
	}
	c.running.Store(2)
	c.wmu.Lock()
	if c.client {
		_, _ = c.appendFrame([]byte(http2.ClientPreface)) // cannot fail: it only queues
	}
	c.encode(func(f *http2.Framer) error { return f.WriteSettings(settings...) })
	if more := c.set.ConnWindow - initialWindow; more > 0 {
		c.encode(func(f *http2.Framer) error { return f.WriteWindowUpdate(0, more) })
	}
	c.wmu.Unlock()

	c.seat.timer = time.AfterFunc(time.Hour, c.onAbsence)
	c.seat.timer.Stop()

	c.mu.Lock()
	c.quiet = time.Now()
	c.startKeepalive()
	c.watchIdle()
	c.mu.Unlock()

	c.attend()
	c.push()
}

// exit is called as each side's last act.
func (c *Conn) exit() {
	if c.running.Add(-1) > 0 {
		return
	}
	c.patience.end()
	c.mu.Lock()
	after := c.afterDone
	c.afterDone = nil
	close(c.done)
	c.mu.Unlock()
	c.amu.Lock()
	c.acceptors.Broadcast()
	c.amu.Unlock()
	for _, f := range after {
		f()
	}
}

// onDone has f called once the connection has ended, at once if it has.
func (c *Conn) onDone(f func()) {
	c.mu.Lock()
	select {
	case <-c.done:
		c.mu.Unlock()
		f()
	default:
		c.afterDone = append(c.afterDone, f)
		c.mu.Unlock()
	}
}

// fail ends the connection and every stream on it; the first call counts. What is queued is still sent, with a GOAWAY behind it,
// unless broken says that the transport is no good any more.
func (c *Conn) fail(e *ConnError, broken bool) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		if broken {
			c.abandon()
		} else {
			c.hurry(c.set.FlushTimeout) // a drain that ended may have left it more
		}
		return
	}
	c.err = e
	c.ping.stop()
	c.stopIdle()
	c.stopDrainLimit()
	last := c.opened
	if c.client {
		last = 0 // the peer opens none
	}
	if c.drain >= drainSaid {
		last = c.lastTaken
	}
	streams := make([]*Stream, 0, len(c.streams))
	for _, s := range c.streams {
		streams = append(streams, s)
	}
	c.mu.Unlock()

	if e.event != "" {
		c.set.Observe(e.event) // here, so that a connection ends for one reason only
	}
	for _, s := range streams {
		s.fail(e)
	}
	if broken {
		c.abandon()
		return
	}
	c.hurry(c.set.FlushTimeout)
	c.wmu.Lock()
	c.encode(func(f *http2.Framer) error { return f.WriteGoAway(last, http2.ErrCode(e.Code), []byte(e.Reason)) })
	c.closing = true
	c.pass()
	c.wmu.Unlock()
	c.attend()
}

// abandon closes the transport without more words.
func (c *Conn) abandon() {
	c.wmu.Lock()
	c.closing, c.broken = true, true
	c.pass()
	c.wmu.Unlock()
	// Whoever writes or reads may hang in the socket; only closing it gets them out. It is closed again, which is harmless.
	_ = c.nc.SetDeadline(longAgo) // TLS closes only when it can write, and somebody may be stuck in that
	_ = c.nc.Close()
	c.attend()
}

// remove takes a stream that has ended off the table.
func (c *Conn) remove(s *Stream) {
	c.mu.Lock()
	if c.streams[s.id] != s {
		c.mu.Unlock()
		return
	}
	delete(c.streams, s.id)
	if len(c.streams) == 0 {
		c.quiet = time.Now()
	}
	c.endIfDrained()
	c.mu.Unlock()
	c.callAcceptor() // the stream's reader does not come back
}

// Close ends the connection and its streams now and waits until it has ended, for twice FlushTimeout at most (to send, and for the peer to end) plus what the
// transport takes to close. What was written before is still sent within that time. It returns nil.
func (c *Conn) Close() error { return c.CloseFor(nil) }

// CloseFor is Close with a reason: the errors of the connection and of its streams wrap why. The peer is not told.
func (c *Conn) CloseFor(why error) error {
	c.fail(&ConnError{Code: uint32(http2.ErrCodeNo), Reason: reasonClosed, Err: why}, false)
	<-c.done
	return nil
}

// Done is closed when the connection has ended: transport closed, nothing of it read any more.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ends or ended, a *ConnError, or nil while it runs.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return nil
	}
	return c.err
}

// NetConn gives the transport, for its addresses. It belongs to the Conn.
func (c *Conn) NetConn() net.Conn { return c.nc }

// RoundTrip is the shortest round trip of the TCP connection beneath, without queues; 0 if it is not known, or there is no TCP right beneath.
func (c *Conn) RoundTrip() time.Duration {
	if c.under == nil || c.under.tcp == nil {
		return 0
	}
	return c.under.tcp.RoundTrip()
}

// ConnectionState gives what TLS knows of the peer, its certificates above all; ok is false if the transport is no TLS.
func (c *Conn) ConnectionState() (state tls.ConnectionState, ok bool) {
	secured, ok := c.nc.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return secured.ConnectionState(), true
}

// Streams is how many streams run.
func (c *Conn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// quietSince tells when the last stream ended, or the zero time if there was none yet; ok is false while some run.
func (c *Conn) quietSince() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quiet, len(c.streams) == 0
}

// Usable says whether a client's Open has a chance: the connection runs, is not draining and has room for a stream.
func (c *Conn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.openable() == nil
}

// lookup finds a running stream.
func (c *Conn) lookup(id uint32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil && !over(s.ends.Load()) {
		return s
	}
	return nil // also when whoever ended it has not come to take it off the table: what comes is late, and not a mistake each time
}

// resetRing remembers the streams that we reset last, so that frames which were on their way are not taken for mistakes. It has room for twice as
// many as may run at once: all of them may be reset in one go (an endpoint dies under its gateway), and their followers within the same round trip.
type resetRing struct {
	ids  []uint32
	at   int
	size int
}

func (r *resetRing) add(id uint32) {
	if len(r.ids) < r.size {
		r.ids = append(r.ids, id)
		return
	}
	r.ids[r.at] = id
	r.at = (r.at + 1) % len(r.ids)
}

func (r *resetRing) has(id uint32) bool {
	for _, x := range r.ids {
		if x == id {
			return true
		}
	}
	return false
}

// forget remembers that a stream was reset here, and what may still be on its way to it. wmu must be held.
func (c *Conn) forget(id uint32) {
	c.forgotten.add(id)
	c.expectStrays()
}

// blockBuffer collects one encoded header block.
type blockBuffer struct{ b []byte }

func (b *blockBuffer) Write(p []byte) (int, error) {
	b.b = append(b.b, p...)
	return len(p), nil
}
