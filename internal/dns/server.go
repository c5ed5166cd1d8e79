// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// ttl is how long clients may keep our answers, in seconds (ztunnel's value).
	ttl = 30
	// maxInFlight bounds the queries that one server works on at once. A pod's resolver has a handful; each waiting one costs a
	// goroutine and two buffers.
	maxInFlight = 256
	// maxConnections bounds the clients connected by TCP at once.
	maxConnections = 64
	// tcpIdle ends a TCP client that neither asks nor takes its answer.
	tcpIdle = 5 * time.Second
	// maxMessage is the largest message that UDP brings; clients that say less in EDNS get less.
	maxMessage = 65535
	// maxAnswers bounds the records of one answer, so that a headless service with thousands of endpoints stays a message.
	maxAnswers = 512
)

// Counters are called as things happen; nil ones are not.
type Counters struct {
	Request func()
	// Forwarded is called with the time that upstream took, and whether it failed.
	Forwarded func(took time.Duration, err error)
}

// Server answers the queries of one pod.
type Server struct {
	// Resolve answers a name from the mesh, or false.
	Resolve func(name string) (Answer, bool)
	// Forward asks upstream, with the query's own bytes. asked is the server that the client had asked, if that is known.
	Forward  func(ctx context.Context, query []byte, tcp bool, asked netip.AddrPort) ([]byte, error)
	Counters Counters
}

// ServePacket answers queries on a UDP socket until ctx ends; it owns pc, and waits for all that it started.
func (s *Server) ServePacket(ctx context.Context, pc net.PacketConn) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { shut(pc) })
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	defer cancel()
	defer shut(pc)

	slots := make(chan struct{}, maxInFlight)
	buffer := make([]byte, maxMessage)
	for {
		n, from, err := pc.ReadFrom(buffer)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			continue // an ICMP error about an answer of ours to a client that left
		}
		select {
		case slots <- struct{}{}:
		default:
			continue // the client asks again
		}
		query := append([]byte(nil), buffer[:n]...)
		running.Go(func() {
			defer func() { <-slots }()
			if answer := s.answer(ctx, query, false, netip.AddrPort{}); answer != nil {
				pc.WriteTo(answer, from) //nolint:errcheck // a lost answer is asked for again
			}
		})
	}
}

// ServeStream answers queries of TCP clients until ctx ends; it owns l. asked tells which server a connection was meant for.
func (s *Server) ServeStream(ctx context.Context, l net.Listener, asked func(net.Conn) netip.AddrPort) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	defer cancel()
	defer l.Close()

	slots := make(chan struct{}, maxConnections)
	for {
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			select { // out of descriptors, for example: the next moment may be better
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			nc.Close()
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			s.serveConn(ctx, nc, asked(nc))
		})
	}
}

func (s *Server) serveConn(ctx context.Context, nc net.Conn, asked netip.AddrPort) {
	for {
		if err := nc.SetDeadline(time.Now().Add(tcpIdle)); err != nil {
			return
		}
		query, err := readMessage(nc)
		if err != nil {
			return
		}
		answer := s.answer(ctx, query, true, asked)
		if answer == nil {
			return
		}
		if err := nc.SetDeadline(time.Now().Add(tcpIdle)); err != nil {
			return
		}
		if err := writeMessage(nc, answer); err != nil {
			return
		}
	}
}

// shut closes what is done with; that it fails changes nothing.
func shut(c io.Closer) { c.Close() }

// answer gives the bytes to send back, or nil to say nothing.
func (s *Server) answer(ctx context.Context, raw []byte, tcp bool, asked netip.AddrPort) []byte {
	if s.Counters.Request != nil {
		s.Counters.Request()
	}
	var query dns.Msg
	if err := query.Unpack(raw); err != nil || query.Response {
		return nil // not DNS: an answer could be abused to hit somebody else
	}
	if reply := s.fromMesh(&query, tcp); reply != nil {
		packed, err := reply.Pack()
		if err == nil {
			return packed
		}
	}
	began := time.Now()
	reply, err := s.Forward(ctx, raw, tcp, asked)
	if s.Counters.Forwarded != nil {
		s.Counters.Forwarded(time.Since(began), err)
	}
	if err != nil {
		packed, err := new(dns.Msg).SetRcode(&query, dns.RcodeServerFailure).Pack()
		if err != nil {
			return nil
		}
		return packed
	}
	return reply
}

// fromMesh answers a question about an address, or nil if it is not about a service of the mesh.
func (s *Server) fromMesh(query *dns.Msg, tcp bool) *dns.Msg {
	if query.Opcode != dns.OpcodeQuery || len(query.Question) != 1 {
		return nil
	}
	q := query.Question[0]
	if q.Qclass != dns.ClassINET || q.Qtype != dns.TypeA && q.Qtype != dns.TypeAAAA {
		return nil
	}
	found, ok := s.Resolve(q.Name)
	if !ok {
		return nil
	}
	reply := new(dns.Msg).SetReply(query)
	reply.Authoritative, reply.RecursionAvailable = true, true
	owner := q.Name
	if full := found.Hostname + "."; !strings.EqualFold(full, q.Name) {
		reply.Answer = append(reply.Answer, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: full})
		owner = full
	}
	addresses := found.Addresses
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	for _, addr := range addresses {
		switch {
		case len(reply.Answer) >= maxAnswers:
		case q.Qtype == dns.TypeA && addr.Is4():
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header(owner, dns.TypeA), A: addr.AsSlice()})
		case q.Qtype == dns.TypeAAAA && addr.Is6():
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	size := dns.MaxMsgSize
	if !tcp {
		size = dns.MinMsgSize
	}
	if edns := query.IsEdns0(); edns != nil {
		reply.SetEdns0(edns.UDPSize(), edns.Do())
		if !tcp {
			size = max(size, int(edns.UDPSize()))
		}
	}
	reply.Truncate(size)
	return reply
}

func header(owner string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// readMessage reads one message of a stream: two bytes of length, then the message (RFC 1035, section 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeMessage(w io.Writer, message []byte) error {
	if len(message) > dns.MaxMsgSize {
		return errors.New("message of more than 65535 bytes")
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message))), message...))
	return err
}
