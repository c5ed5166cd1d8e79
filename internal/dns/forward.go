// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	// upstreamTimeout is for one server's answer; a resolver's own is usually 5 s, so that two servers fit into it.
	upstreamTimeout = 2 * time.Second
	// headerSize is that of a DNS message's fixed part.
	headerSize = 12
)

// Forwarder asks other servers, with the client's own bytes, so that whatever the client put into its query arrives.
type Forwarder struct {
	// Servers are asked in order until one answers. A server that the client itself had asked comes before them.
	Servers func() []netip.AddrPort
	// Dial opens "udp" or "tcp" connections to a server.
	Dial func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error)
}

// Forward gives the first answer. It returns the last error if no server answers, or ctx ends.
func (f *Forwarder) Forward(ctx context.Context, query []byte, tcp bool, asked netip.AddrPort) ([]byte, error) {
	servers := f.Servers()
	if asked.IsValid() {
		servers = append([]netip.AddrPort{asked}, servers...)
	}
	err := errors.New("no DNS server is known")
	for _, server := range servers {
		var answer []byte
		if answer, err = f.ask(ctx, query, tcp, server); err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (f *Forwarder) ask(ctx context.Context, query []byte, tcp bool, server netip.AddrPort) ([]byte, error) {
	if len(query) < headerSize {
		return nil, errors.New("query is shorter than a header")
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	network := "udp"
	if tcp {
		network = "tcp"
	}
	nc, err := f.Dial(ctx, network, server)
	if err != nil {
		return nil, fmt.Errorf("connect DNS server %v: %w", server, err)
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()

	// A fresh id on a fresh socket: whoever wants to forge an answer must guess both.
	own := bytes.Clone(query)
	id := uint16(rand.Uint32())
	binary.BigEndian.PutUint16(own, id)
	if tcp {
		err = writeMessage(nc, own)
	} else {
		_, err = nc.Write(own)
	}
	if err != nil {
		return nil, fmt.Errorf("ask DNS server %v: %w", server, err)
	}
	buffer := make([]byte, maxMessage)
	for {
		var answer []byte
		if tcp {
			answer, err = readMessage(nc)
		} else {
			var n int
			n, err = nc.Read(buffer)
			answer = buffer[:n]
		}
		if err != nil {
			return nil, fmt.Errorf("answer of DNS server %v: %w", server, err)
		}
		if belongs(own, answer) {
			answer = bytes.Clone(answer)
			copy(answer[:2], query[:2])
			return answer, nil
		}
		if tcp {
			return nil, fmt.Errorf("DNS server %v answered another question", server)
		}
	}
}

// belongs says whether an answer is to this query: the same id, and the same question.
func belongs(query, answer []byte) bool {
	if len(answer) < headerSize || answer[0] != query[0] || answer[1] != query[1] {
		return false
	}
	var q, a dns.Msg
	if q.Unpack(query) != nil || a.Unpack(answer) != nil || !a.Response {
		return false
	}
	if len(a.Question) == 0 {
		return a.Rcode != dns.RcodeSuccess // servers may leave the question out of a refusal
	}
	return len(q.Question) == len(a.Question) && dns.IsSubDomain(a.Question[0].Name, q.Question[0].Name) &&
		dns.IsSubDomain(q.Question[0].Name, a.Question[0].Name) && q.Question[0].Qtype == a.Question[0].Qtype
}
