// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxConnections bounds the clients connected by TCP at once.
	maxConnections = 64
	// tcpIdle ends a TCP client that neither asks nor takes its answer.
	tcpIdle = 5 * time.Second
	// lastCall is for how long queries are read that came before the end.
	lastCall = 10 * time.Millisecond
)

// Counters are called as things happen; nil ones are not.
type Counters struct {
	Request func()
	// Forwarded is called with the time that upstream took, and whether it failed.
	Forwarded func(took time.Duration, err error)
	// Cached is called for an answer of the Cache.
	Cached func()
	// Refused is called with the name asked for, which may be anything, and with what went wrong, which may be nil.
	Refused func(why Reason, name string, err error)
}

// Server answers the queries of one pod.
type Server struct {
	// Resolve answers a name from the mesh.
	Resolve func(name string) (Answer, Found)
	// Forward asks upstream.
	Forward func(context.Context, Query) ([]byte, error)
	// Cache, if there is one, is asked before Forward is.
	Cache *Cache
	// Slots bounds the queries that Forward has at once. Each costs a goroutine, a socket and maxPacket bytes; over TCP, as many bytes as the
	// answer has, and those of an update, of which each connection has one on the way.
	Slots    *Slots
	Counters Counters
}

// ServePacket takes queries on a UDP socket until taking ends, and goes on answering those that it took until that is done, or answering
// ends. It owns pc, and waits for all that it started. asked tells which server a client had meant; it is called for queries that are
// passed on only, and may take its time.
func (s *Server) ServePacket(taking, answering context.Context, pc net.PacketConn, asked func(from net.Addr) netip.AddrPort) {
	var running sync.WaitGroup
	defer shut(pc)
	defer running.Wait()
	defer context.AfterFunc(answering, func() { shut(pc) })()
	defer context.AfterFunc(taking, func() { pc.SetReadDeadline(time.Now().Add(lastCall)) })() //nolint:errcheck // a closed socket ends it, too

	buffer := make([]byte, maxQuery+1)
	for {
		n, from, err := pc.ReadFrom(buffer)
		if err != nil {
			if taking.Err() != nil || answering.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error about an answer of ours to a client that left
		}
		q, reply := s.take(buffer[:n], false)
		if q != nil {
			q.Raw = append([]byte(nil), q.Raw...)
			running.Go(func() {
				q.Asked = asked(from)
				if reply := s.pass(answering, q); reply != nil {
					pc.WriteTo(reply, from) //nolint:errcheck // a lost answer is asked for again
				}
			})
		}
		if reply != nil {
			pc.WriteTo(reply, from) //nolint:errcheck // the same
		}
	}
}

// ServeStream does the same for TCP clients; it owns l.
func (s *Server) ServeStream(taking, answering context.Context, l net.Listener, asked func(net.Conn) netip.AddrPort) {
	var running sync.WaitGroup
	defer running.Wait()
	defer shut(l)
	defer context.AfterFunc(answering, func() { shut(l) })()
	defer context.AfterFunc(taking, func() { shut(l) })()

	slots := make(chan struct{}, maxConnections)
	for {
		nc, err := l.Accept()
		if err != nil {
			if taking.Err() != nil || answering.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of descriptors, for example: the next moment may be better
			case <-taking.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			shut(nc)
			s.refused(ReasonConnections, "", nil)
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			s.serveConn(taking, answering, nc, asked)
		})
	}
}

// serveConn answers the queries of one connection, each when its answer is there (RFC 7766, section 6.2.1.1).
func (s *Server) serveConn(taking, answering context.Context, nc net.Conn, asked func(net.Conn) netip.AddrPort) {
	var running sync.WaitGroup
	defer shut(nc)
	defer running.Wait()
	defer context.AfterFunc(answering, func() { shut(nc) })()

	var writing sync.Mutex
	write := func(reply []byte) {
		writing.Lock()
		defer writing.Unlock()
		if reply == nil || nc.SetWriteDeadline(time.Now().Add(tcpIdle)) != nil || writeMessage(nc, reply) != nil {
			shut(nc) // to a client that does not take its answer, or is owed none, there is nothing more to say
		}
	}
	for heard := false; ; heard = true {
		if nc.SetReadDeadline(time.Now().Add(tcpIdle)) != nil {
			return
		}
		// Who has connected and asked nothing yet is about to, and there is nobody else to hear it. Who has been answered connects again (RFC 7766, section 6.2.4).
		last := func() bool { return true }
		if heard { // after the deadline above, so that this one counts
			last = context.AfterFunc(taking, func() { nc.SetReadDeadline(time.Now().Add(lastCall)) }) //nolint:errcheck // the same
		}
		raw, err := readMessage(nc)
		last()
		if err != nil {
			return
		}
		q, reply := s.take(raw, true)
		if q == nil {
			write(reply)
			continue
		}
		answer := func() {
			q.Asked = asked(nc)
			write(s.pass(answering, q))
		}
		if len(raw) > maxQuery {
			answer() // one at a time: each holds its bytes while it waits
			continue
		}
		running.Go(answer)
	}
}

// shut closes what is done with; that it fails changes nothing.
func shut(c io.Closer) { c.Close() }

// take judges a query. It gives a query that is to be passed on, for which it took a slot; or what to say at once; or neither, when
// there is nothing to say. raw is the query's until it was passed on.
func (s *Server) take(raw []byte, tcp bool) (*Query, []byte) {
	if s.Counters.Request != nil {
		s.Counters.Request()
	}
	q, why := read(raw, tcp)
	if q == nil {
		return nil, nil
	}
	if why != "" {
		return nil, s.refuse(q, why, nil)
	}
	if question := q.msg.Question[0]; q.msg.Opcode == dns.OpcodeQuery && question.Qclass == dns.ClassINET {
		a, found := s.Resolve(question.Name)
		if q.found = found; found == Known && a.covers(question.Qtype) {
			if opt := q.msg.IsEdns0(); opt != nil && opt.Version() != 0 {
				return nil, s.refuse(q, ReasonVersion, nil)
			}
			if packed, err := q.reply(a).Pack(); err == nil {
				return nil, packed
			}
		}
	}
	if why := s.Slots.take(); why != "" {
		return nil, s.refuse(q, why, nil)
	}
	return q, nil
}

// upstream gives what a server says, or said before.
func (s *Server) upstream(ctx context.Context, q *Query) ([]byte, error) {
	if answer := s.Cache.find(q); answer != nil {
		if s.Counters.Cached != nil {
			s.Counters.Cached()
		}
		return answer, nil
	}
	began := time.Now()
	answer, err := s.Forward(ctx, *q)
	if s.Counters.Forwarded != nil {
		failure := err
		if errors.Is(err, errTooLong) {
			failure = nil
		}
		s.Counters.Forwarded(time.Since(began), failure)
	}
	if err == nil {
		s.Cache.keep(q, answer)
	}
	return answer, err
}

// pass asks upstream, and gives the slot back.
func (s *Server) pass(ctx context.Context, q *Query) []byte {
	defer s.Slots.give()
	answer, err := s.upstream(ctx, q)
	var timeout net.Error
	switch {
	case errors.Is(err, errTooLong):
		return pack(q.cut())
	case err == nil && q.found == Exists && len(answer) >= headerSize && int(answer[3]&0xf) == dns.RcodeNameError:
		// The server does not know a service that we know, though not where it is.
		reply := q.blank(dns.RcodeSuccess)
		q.none(reply, podTTL)
		return pack(reply)
	case err == nil:
		return answer
	case errors.Is(err, errNoServer):
		return s.refuse(q, ReasonNoServer, err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return s.refuse(q, ReasonTimeout, err)
	}
	return s.refuse(q, ReasonUpstream, err)
}

func (s *Server) refuse(q *Query, why Reason, err error) []byte {
	s.refused(why, q.name(), err)
	return pack(q.refusal(why))
}

func (s *Server) refused(why Reason, name string, err error) {
	if s.Counters.Refused != nil {
		s.Counters.Refused(why, name, err)
	}
}

// pack gives the message's bytes, or nil for one that has none.
func pack(m *dns.Msg) []byte {
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}
